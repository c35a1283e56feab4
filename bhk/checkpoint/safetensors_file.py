"""The .safetensors format: reading views of the mapped file, and writing in one pass.

The format is written here because the library's own writer needs the whole model in memory, is not atomic, and makes files
that only their owner can read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import safetensors
import torch

from bhk.base.errors import shown
from bhk.base.memory import is_memory_error
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, UnsupportedTensorError
from bhk.codec.dtypes import DTYPE_NAMES

# The format's names are those of safetensors, which has no complex128.
_DTYPES = {dtype: name for dtype, name in DTYPE_NAMES.items() if dtype != torch.complex128}
_METADATA = "__metadata__"


def load(path: Path, label: str) -> dict[str, torch.Tensor]:
    """Return the tensors of the file in the order of its header, without reading their data.

    Error messages call the file `label`.

    Raises:
        CorruptCheckpointError: the header is invalid, or names a tensor twice (which the library accepts).
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
    # A dtype that this version of PyTorch lacks raises one of these errors.
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_memory_error(error):
            raise
        raise CorruptCheckpointError(
            f"{label} holds a tensor that PyTorch cannot represent ({shown(error)})"
        ) from error


def _names(path: Path) -> list[str]:
    """Return the tensor names in the order of the header, which safe_open has checked except for repeated names."""
    with open(path, "rb") as file:
        header = parse_object(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != _METADATA]


def check(entry: Entry) -> None:
    """Raise an error if the format cannot hold the tensor.

    Raises:
        UnsupportedTensorError: its dtype or one of its names is not allowed.
    """
    name = shown(entry.names[0])
    if entry.spec.dtype not in _DTYPES:
        raise UnsupportedTensorError(
            f"tensor {name!r} is {entry.spec.dtype}, which safetensors cannot hold; write a .pth file"
        )
    for other in entry.names:
        if other == _METADATA or any(0xD800 <= ord(letter) <= 0xDFFF for letter in other):
            raise UnsupportedTensorError(
                f"safetensors does not allow the tensor name {shown(other)!r}; write a .pth file"
            )


def save(
    file: BinaryIO, entries: Sequence[Entry], fetch: Callable[[TensorSpec], torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write `entries` in one pass with one tensor in memory at a time. A tied tensor is written under each name.

    The header keeps the order of `entries`. The data are sorted by falling item size, so that each tensor starts at a multiple
    of its item size, as in files of the library.
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
        del data  # otherwise it stays in memory while the next tensor is fetched


def _packed(header: dict[str, object]) -> bytes:
    """Return the length and JSON of `header`, padded so that the data start at a multiple of 8."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
