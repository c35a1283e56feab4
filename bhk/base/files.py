"""Replacing files in one step, so that readers see the old file or the new one and never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from bhk.base.errors import BhkError, option

FilePath: TypeAlias = str | os.PathLike[str]


class ReadError(BhkError):
    """The system could not read a file."""


class WriteError(BhkError):
    """A file could not be written; what was there before is unchanged."""


class DestinationExistsError(WriteError):
    """The file to write exists, and overwriting was not requested."""


_umask_lock = threading.Lock()


def _umask() -> int:
    """Return the umask of the process; POSIX can only read it by setting it."""
    with _umask_lock:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


def _mode_for(path: Path) -> int:
    """Return the permission bits of the file at `path`, or those that the umask gives a new file."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o666 & ~_umask()


def _temporary_name(path: Path) -> Path:
    """Return a name in the folder of `path`. Names have at most 255 bytes, and a character has up to four."""
    return path.parent / f".{path.name[:40]}.{secrets.token_hex(8)}.tmp"


def _open_unnamed(folder: Path) -> int | None:
    """Open a file without a name, so that even SIGKILL leaves nothing behind; None where the system cannot."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL) and folder.is_dir():
            return None
        raise


def check_destination(path: Path, *, force: bool, sources: tuple[Path, ...] = ()) -> None:
    """Check that a file can be written, before any work is done.

    Args:
        path: the file to write.
        force: whether an existing file may be overwritten.
        sources: files that are read meanwhile, and so must not be overwritten.

    Raises:
        DestinationExistsError: `path` exists and `force` is false.
        WriteError: `path` is one of `sources`, is a folder or a device, or its folder does not exist.
    """
    try:
        if path.exists():
            if not path.is_file():  # replacing /dev/null by a file would break the system
                kind = "a folder" if path.is_dir() else "not a regular file"
                raise WriteError(f"{path} is {kind}; give the name of a file to write")
            if any(source.exists() and path.samefile(source) for source in sources):
                raise WriteError(f"{path} is the file that is being read; give another name")
        elif not path.parent.is_dir():
            raise WriteError(f"folder {path.parent} does not exist; create it first")
        if not force and os.path.lexists(path):
            raise DestinationExistsError(f"{path} exists; use {option('force', True)} to overwrite it")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


_unfinished: dict[Path, Path] = {}  # temporary file -> the file whose place it will take


def files_being_written() -> tuple[Path, ...]:
    """Return the files that `replace_file` is writing in this process."""
    return tuple(_unfinished.values())


def abandon_files() -> None:
    """Remove the temporary files of `replace_file`, because the process ends without leaving its blocks."""
    for temporary in list(_unfinished):
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replace_file(path: Path, *, force: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file, open for reading and writing, that replaces `path` when the block ends without an error.

    The data is written to a temporary file in the folder of `path` (without a name, where the system can do that) and
    flushed to disk. The file then gets the permission bits of the file it replaces, or those of the umask, and takes its
    place in one step. After any error or interruption, `path` is as it was before and the temporary file is gone.

    Raises:
        DestinationExistsError: `force` is false, and `path` was created while the block ran.
        WriteError: the system refused: no space, no permission, no such folder.
    """
    temporary = _temporary_name(path)
    _unfinished[temporary] = path
    try:
        mode = _mode_for(path)
        handle = _open_unnamed(path.parent)
        unnamed = handle is not None
        if handle is None:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        del _unfinished[temporary]
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            if unnamed:
                # With a directory descriptor, here unused, Python calls linkat, which follows the link.
                os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno(), follow_symlinks=True)
        del _unfinished[temporary]  # an interruption from here on may find the file written
        if force or not _link_new(temporary, path):
            os.replace(temporary, path)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        _unfinished.pop(temporary, None)
    _sync_folder(path.parent)


def _link_new(temporary: Path, path: Path) -> bool:
    """Give `temporary` the name `path` if that is free; return False if the file system has no hard links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise DestinationExistsError(f"{path} exists now; use {option('force', True)} to overwrite it") from None
    except OSError:
        if os.path.lexists(path):
            raise DestinationExistsError(f"{path} exists now; use {option('force', True)} to overwrite it") from None
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Some systems can neither open nor flush folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
