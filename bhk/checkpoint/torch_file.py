"""The files of torch.save: reading them without running any code in them, and writing them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import torch

from bhk.base.errors import BhkError, shown
from bhk.base.files import WriteError
from bhk.base.memory import is_memory_error
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, UnsafePickleError
from bhk.checkpoint.identify import Kind
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.pickle_cost import check_cost

_LEGACY_PICKLES = 5  # magic number, version, system, content, and the keys of its storages
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


def load(path: Path, kind: Kind, label: str) -> object:
    """Return the object in a file of torch.save. Its tensors are mapped from the file where the format allows it.

    Error messages call the file `label`.

    Raises:
        TooLargeError: the pickle would take for ever.
        UnsafePickleError: the pickle uses anything other than plain containers and tensors.
        CorruptCheckpointError: the file is damaged.
    """
    try:
        _check_pickles(path, kind, label)
        if kind is Kind.TORCH_ZIP and _can_map(path):
            return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        with open(path, "rb") as file:
            return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise _refusal(label, str(error)) from error
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {label}: {error.strerror or error}") from error
    except (BhkError, MemoryError):
        raise
    # A damaged pickle is a broken program: it can raise anything.
    except Exception as error:
        if is_memory_error(error):
            raise
        reason = shown(str(error).partition("\n")[0] or type(error).__name__)
        raise CorruptCheckpointError(
            f"{label} is damaged or not a PyTorch checkpoint ({reason}); get the file again"
        ) from error


def _check_pickles(path: Path, kind: Kind, label: str) -> None:
    """Check that no pickle in the file keeps its reader busy for ever.

    Raises:
        TooLargeError: one does.
    """
    if kind is Kind.TORCH_ZIP:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    with archive.open(name) as file:
                        check_cost(cast("BinaryIO", file), label)
        return
    with open(path, "rb") as file:
        for _ in range(_LEGACY_PICKLES):
            check_cost(file, label)


def _can_map(path: Path) -> bool:
    """Return whether torch can map the data: they are not compressed, and the suffix does not mean safetensors to it."""
    if path.suffix == ".safetensors":
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _refusal(label: str, message: str) -> UnsafePickleError | CorruptCheckpointError:
    refused = _REFUSED.search(message)
    if refused is None and "Unsupported operand" not in message:
        reason = shown(message.rstrip().rpartition("\n\n")[0].rpartition("\n")[2] or "unknown instruction")
        return CorruptCheckpointError(f"{label} is not a plain PyTorch checkpoint ({reason}); get the file again")
    # torch's safe reader knows the instructions of protocol 2, which torch.save uses.
    what = f"{shown(refused[1])}, which may run code" if refused else "pickle instructions that cannot be checked"
    return UnsafePickleError(
        f"{label} needs {what} to load, so bhk does not open it; if you trust the file, load it in the program that"
        ' made it, and save only the weights: torch.save(model.state_dict(), "weights.pth"), or safetensors'
    )


def save(file: BinaryIO, entries: Sequence[Entry], layout: Layout, fetch: Callable[[TensorSpec], torch.Tensor]) -> None:
    """Write `entries` with torch.save, nested as `layout` says. Tied names share one storage; all tensors are in memory.

    Raises:
        WriteError, OSError: torch or the system could not write.
    """
    content: dict[str, object] = {group: {} for group in layout.groups}
    for entry in entries:
        tensor = _alone(fetch(entry.spec))
        for name in entry.names:
            group, key = layout.split(name)
            part = content if group is None else content[group]
            part[key] = tensor  # type: ignore[index]
    for key in reversed(layout.wrapper):
        content = {key: content}
    try:
        torch.save(content, file)
    # If the system refuses data, torch's writer reports a wrong position instead.
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise WriteError(f"cannot write the checkpoint ({shown(str(error).partition(chr(10))[0])})") from error


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` with a storage of its own size, because torch.save writes the whole storage of a view."""
    needed = tensor.numel() * tensor.dtype.itemsize
    return tensor if tensor.untyped_storage().nbytes() == needed else tensor.clone()
