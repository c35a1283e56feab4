"""The .safetensors format: read as views of the mapped file, written in one pass.

The library's own writer needs the whole model in memory, is not atomic and makes files that only their owner can read;
hence the few lines that write the format here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import safetensors
import torch

from bhk.base.errors import shown
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, UnsupportedTensorError
from bhk.codec.dtypes import DTYPE_NAMES

# The format's names are those of safetensors, which has no complex128.
_DTYPES = {dtype: name for dtype, name in DTYPE_NAMES.items() if dtype != torch.complex128}
_METADATA = "__metadata__"


def load(path: Path, label: str) -> dict[str, torch.Tensor]:
    """Return the tensors of the file in the order of its header; no data are read yet.

    Errors call the file `label`.

    Raises:
        CorruptCheckpointError: the header is malformed, or names a tensor twice (which the library lets pass).
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            names = _names(path)
            return {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {label}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, StrictJsonError) as error:
        raise CorruptCheckpointError(
            f"{label} is a damaged safetensors file ({shown(error)}); get the file again"
        ) from error
    # A dtype that this PyTorch lacks surfaces as an attribute or a key it does not know.
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptCheckpointError(
            f"{label} holds a tensor that PyTorch cannot represent ({shown(error)})"
        ) from error


def _names(path: Path) -> list[str]:
    """Return the tensor names in the order of the header, which safe_open has found to be sound but for repetitions."""
    with open(path, "rb") as file:
        header = parse_object(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != _METADATA]


def check(entry: Entry) -> None:
    """Raise UnsupportedTensorError if the format cannot hold the tensor."""
    name = shown(entry.names[0])
    if entry.spec.dtype not in _DTYPES:
        raise UnsupportedTensorError(
            f"tensor {name!r} is {entry.spec.dtype}, which safetensors lacks; write a .pth file"
        )
    for other in entry.names:
        if other == _METADATA or any(0xD800 <= ord(letter) <= 0xDFFF for letter in other):
            raise UnsupportedTensorError(f"safetensors allows no tensor name {shown(other)!r}; write a .pth file")


def save(
    file: BinaryIO, entries: Sequence[Entry], fetch: Callable[[TensorSpec], torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write `entries` in one pass with one tensor in memory at a time; a tied tensor is written under each name.

    The header keeps the order of `entries`; the data go by falling item size, so that each tensor lies at a multiple
    of its item size, as the library's own writer does.
    """
    by_size = sorted(entries, key=lambda entry: -entry.spec.dtype.itemsize)
    begin, offsets = 0, dict[str, tuple[int, int]]()
    for entry in by_size:
        for name in entry.names:
            offsets[name] = begin, begin + entry.spec.nbytes
            begin += entry.spec.nbytes
    header: dict[str, object] = {_METADATA: {**metadata, "format": "pt"}}
    for entry in entries:
        for name in entry.names:
            dtype, shape = _DTYPES[entry.spec.dtype], list(entry.spec.shape)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets[name]}
    file.write(_packed(header))
    for entry in by_size:
        data = fetch(entry.spec).contiguous().reshape(-1).view(torch.uint8).numpy().data
        for _ in entry.names:
            file.write(data)
        del data  # or it would live on while the next one is fetched


def _packed(header: dict[str, object]) -> bytes:
    """Return the length and the JSON of `header`, padded so that the data start at a multiple of 8."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
