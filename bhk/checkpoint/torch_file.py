"""The files of torch.save: reading them without running any code in them, and writing them."""

from __future__ import annotations

import io
import mmap
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bhk.base.errors import BhkError, shown
from bhk.base.files import WriteError
from bhk.base.memory import is_memory_error
from bhk.checkpoint import pickles
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, UnsafePickleError
from bhk.checkpoint.identify import Kind
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.pickles import STORAGES, RefusedPickleError, StandIn, Storage

# What the pickles of a file from before PyTorch 1.6 start with.
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_PICKLE_BYTES = 1 << 30


def load(path: Path, kind: Kind, label: str) -> object:
    """Return the object in a file of torch.save. Its tensors are mapped from the file where the format allows it.

    Objects other than plain containers and tensors are replaced by `pickles.StandIn`. Error messages call the file `label`.

    Raises:
        UnsafePickleError: the object itself is of a class that would have to be run, or the pickle calls the system.
        CorruptCheckpointError: the file is damaged.
    """
    try:
        content = _load_zip(path) if kind is Kind.TORCH_ZIP else _load_legacy(path)
    except RefusedPickleError as error:
        raise unsafe(label, error.name) from error
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
    if isinstance(content, StandIn) and not content:
        raise unsafe(label, content.kind)
    return content


def unsafe(label: str, name: str) -> UnsafePickleError:
    """Return the error about a file whose content only the function or class `name` could make."""
    return UnsafePickleError(
        f"{label} needs {shown(name)}, which may run code, to load, so bhk does not open it; if you trust the file, load it in"
        ' the program that made it, and save only the weights: torch.save(model.state_dict(), "weights.pth"), or safetensors'
    )


def _load_zip(path: Path) -> object:
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        _check_sums(archive)
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        swapped = "byteorder" in members and archive.read(members["byteorder"]).decode() != sys.byteorder
        mapped = _Mapped(file, archive)
        known: dict[str, torch.UntypedStorage] = {}

        def storage_of(description: tuple[Any, ...]) -> Storage:
            dtype, key, location, numel = _described(description)
            if location == "meta":
                return Storage(None, dtype)
            if key not in known:
                known[key] = mapped.member(members[f"data/{key}"], numel * dtype.itemsize)
                if swapped:
                    # What is mapped is read from the file again.
                    known[key] = known[key].clone()  # type: ignore[no-untyped-call]
                    known[key].byteswap(dtype)  # type: ignore[no-untyped-call]
            return Storage(known[key], dtype)

        pickled = members["data.pkl"]
        if pickled.file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its pickle has {pickled.file_size} bytes, more than {MAX_PICKLE_BYTES}")
        return pickles.load(io.BytesIO(archive.read(pickled)), pickled.file_size, storage_of)


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Check the checksums of what is only mapped later; reading a compressed member checks its own.

    They are all zero if torch.serialization.set_crc32_options(False) was called before the file was saved.

    Raises:
        BadZipFile: one differs.
    """
    members = archive.infolist()
    if not any(member.CRC for member in members):
        for member in members:
            del member.CRC  # or reading would check it
        return
    for member in members:
        if member.compress_type == zipfile.ZIP_STORED:
            with archive.open(member) as file:
                while file.read(1 << 20):
                    pass


def _described(description: tuple[Any, ...]) -> tuple[torch.dtype, str, str, int]:
    """Return dtype, key, location and number of items of a storage that torch.save describes."""
    _, kind, key, location, numel, *_ = description
    return STORAGES[kind.name], key, location, numel


class _Mapped:
    """The members of a zip file as memory, mapped from the file where they are not compressed."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile) -> None:
        self._file, self._archive = file, archive

    @cached_property
    def _data(self) -> torch.Tensor:
        # What is written to the memory does not reach the file.
        return torch.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)

    def member(self, member: zipfile.ZipInfo, size: int) -> torch.UntypedStorage:
        """Return the `size` first bytes of a member, or more."""
        if size > member.file_size:
            raise ValueError(f"{member.filename} has {member.file_size} bytes instead of {size}")
        if not size:
            return torch.empty(0).untyped_storage()
        if member.compress_type != zipfile.ZIP_STORED:
            return torch.frombuffer(bytearray(self._archive.read(member)), dtype=torch.uint8).untyped_storage()
        begin = self._begin(member)
        if begin + size > len(self._data):
            raise ValueError(f"{member.filename} goes beyond the end of the file")
        part: torch.UntypedStorage = self._data.untyped_storage()[begin : begin + size]
        return part

    def _begin(self, member: zipfile.ZipInfo) -> int:
        """Return where the data of a member begin: behind a header of their own, with a name and extra fields."""
        self._file.seek(member.header_offset)  # not from the mapping, whose end may have been cut off
        header = self._file.read(30)
        if not header.startswith(b"PK\3\4"):
            raise ValueError(f"{member.filename} is not where the table of the file says")
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        return member.header_offset + len(header) + name + extra


def _load_legacy(path: Path) -> object:
    with open(path, "rb") as file:
        return _load_pickles(file, os.fstat(file.fileno()).st_size)


def _from_bytes(data: bytes) -> object:
    return _load_pickles(io.BytesIO(data), len(data))


def _load_pickles(file: BinaryIO, size: int) -> object:
    """Return the object in a file from before PyTorch 1.6, or in one of `pickle` itself."""
    start = pickles.load(file, size, from_bytes=_from_bytes)
    if isinstance(start, dict):
        return start
    if start != _LEGACY_MAGIC or pickles.load(file, size) != _LEGACY_PROTOCOL:
        raise ValueError("it does not start as one")
    system = pickles.load(file, size)
    if not isinstance(system, dict) or system.get("little_endian") is not (sys.byteorder == "little"):
        raise ValueError("it was made on a machine with the other byte order")
    stored: dict[str, tuple[torch.UntypedStorage, int]] = {}  # and the bytes of an item
    views: dict[str, torch.UntypedStorage] = {}
    rest = size

    def storage_of(description: tuple[Any, ...]) -> Storage:
        nonlocal rest
        dtype, key, location, numel = _described(description)
        if location == "meta":
            return Storage(None, dtype)
        if key not in stored:
            rest -= numel * dtype.itemsize
            if rest < 0:
                raise EOFError("its tensors are larger than the file")
            stored[key] = torch.empty(numel * dtype.itemsize, dtype=torch.uint8).untyped_storage(), dtype.itemsize
        data, view = stored[key][0], description[5]
        if view is None:
            return Storage(data, dtype)
        name, first, count = view
        begin, end = first * dtype.itemsize, (first + count) * dtype.itemsize
        return Storage(views.setdefault(name, data[begin:end]), dtype)

    content = pickles.load(file, size, storage_of)
    for key in pickles.load(file, size):  # type: ignore[attr-defined]
        _fill(*stored[key], file)
    return content


def _fill(storage: torch.UntypedStorage, width: int, file: BinaryIO) -> None:
    """Read the data of a storage, which follow their number of items of `width` bytes."""
    count = int.from_bytes(file.read(8), "little")
    data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    if count * width != len(data) or file.readinto(data) != len(data):  # type: ignore[attr-defined]
        raise EOFError("its data are incomplete")


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
