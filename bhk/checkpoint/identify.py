"""Identifying a file by its first bytes, because suffixes mislead and downloads fail in a few well-known ways."""

from __future__ import annotations

import enum
import os
import stat
import zipfile
from pathlib import Path

from bhk.base.limits import check_expansion
from bhk.checkpoint.errors import (
    AlreadyBhkError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    NotACheckpointError,
    UnreadableCheckpointError,
    UnsafePickleError,
)
from bhk.container.reader import MAGIC

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FOREIGN = {
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ\x00": "an xz file; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip file; unpack it first",
    b"\x28\xb5\x2f\xfd": "a Zstandard file; unpack it first",
    b"\x89HDF\r\n\x1a\n": "an HDF5 (Keras) file; expected PyTorch or safetensors weights",
    b"GGUF": "a GGUF file; expected PyTorch or safetensors weights",
    b"\x93NUMPY": "a NumPy array; expected PyTorch or safetensors weights",
}


class Kind(enum.Enum):
    """How the weights in a file are stored."""

    SAFETENSORS = enum.auto()
    TORCH_ZIP = enum.auto()
    TORCH_LEGACY = enum.auto()  # before PyTorch 1.6; cannot be mapped
    ZIP = enum.auto()  # an ordinary zip file, which may hold one of the others


def identify(path: Path, label: str) -> Kind:
    """Return how the weights in the file at `path` are stored; error messages call the file `label`.

    Raises:
        CheckpointNotFoundError, UnreadableCheckpointError: the file cannot be opened.
        NotACheckpointError: the file is something else, which the message names.
        CorruptCheckpointError: the file starts like a checkpoint, but its end is missing or damaged.
        UnsafePickleError: the file is a TorchScript program.
        TooLargeError: it is a zip file that unpacks to much more than its size.
    """
    start, size = _start(path, label)
    if size == 0:
        raise NotACheckpointError(f"{label} is empty; the download or copy probably failed, so get it again")
    if start.startswith(MAGIC):
        raise AlreadyBhkError(f"{label} is already a .bhk file; use `bhk export` to turn it back into a checkpoint")
    if start.startswith(b"PK"):
        return _zip_kind(path, label)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Kind.TORCH_LEGACY
    header = int.from_bytes(start[:8], "little")
    if len(start) > 8 and start[8:9] == b"{":
        if header > size - 8:
            raise CorruptCheckpointError(
                f"{label} has {size} bytes, but its safetensors header alone has {header}; get the file again"
            )
        return Kind.SAFETENSORS
    raise NotACheckpointError(f"{label} is {_describe(start)}")


def _start(path: Path, label: str) -> tuple[bytes, int]:
    """Return the first bytes and the size of a regular file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotACheckpointError(
                f"{label} is not a regular file; give a checkpoint file or a folder that holds one"
            )
        with open(path, "rb") as file:
            return file.read(512), os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"{label} does not exist; check the name") from error
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {label}: {error.strerror or error}") from error


def _zip_kind(path: Path, label: str) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unpacked = sum(
                member.file_size for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED
            )
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {label}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CorruptCheckpointError(
            f"{label} starts like a PyTorch or zip file, but its end is missing or damaged; get the file again"
        ) from error
    check_expansion(label, unpacked, path.stat().st_size)
    top = {name.partition("/")[2] for name in names}
    if "constants.pkl" in top:
        raise UnsafePickleError(
            f"{label} is a TorchScript program, which holds code besides its weights; load it with torch.jit.load if you"
            " trust it, and save model.state_dict() with torch.save or safetensors"
        )
    return Kind.TORCH_ZIP if "data.pkl" in top else Kind.ZIP


def _describe(start: bytes) -> str:
    """Return what a file that is not a checkpoint seems to be, and what to do."""
    if start.startswith(_LFS_POINTER):
        return "a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, perhaps because the address required a login; download the file itself"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in start):
        return "a text file; expected PyTorch (.pth, .pt, .bin) or safetensors weights"
    return "in an unknown format; expected PyTorch (.pth, .pt, .bin) or safetensors weights"
