"""Replacing files in one step, so that readers see the old file or the new one and never a part of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Stamp:
    """What tells that a file is another one than before, or was changed.

    Attributes:
        identity: device and inode.
        size: length in bytes.
        changed: time of the last change of the content, in nanoseconds.
    """

    identity: tuple[int, int]
    size: int
    changed: int

    @classmethod
    def of(cls, file: Path | int) -> Stamp:
        """Return the stamp of the file at a path, or of an open file.

        Raises:
            OSError: the system refused.
        """
        status = os.stat(file)
        return cls((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)


# Errors of this machine that may pass, and say nothing about the file.
PASSING = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the system's errors into a ReadError about `path`, so that a caller that writes does not take them for its own.

    Raises:
        ReadError: the system could not read the file.
    """
    try:
        yield
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error


def copy_into(source: Path, target: BinaryIO) -> None:
    """Append the content of a file to an open one.

    Raises:
        ReadError: the system could not read the source; errors of writing stay OSErrors.
    """
    with reading(source):
        file = source.open("rb")
    with file:
        while True:
            with reading(source):
                block = file.read(1 << 20)
            if not block:
                return
            target.write(block)


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


@contextlib.contextmanager
def made_folder(path: Path, *, parents: bool = False) -> Iterator[None]:
    """Make a folder, unless it is there; if the block fails, remove it again, unless something is in it.

    Args:
        path: the folder.
        parents: whether folders above it are made, too; these stay.

    Raises:
        WriteError: the system refused.
    """
    try:
        is_new = not path.is_dir()
        path.mkdir(parents=parents, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make the folder {path}: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


_unfinished: dict[Path, Path] = {}  # temporary file -> the file whose place it will take
_written: list[Path] = []  # the results that took their places last, while nothing else is written


def files_being_written() -> tuple[Path, ...]:
    """Return the files that `replace_file` is writing in this process."""
    return tuple(_unfinished.values())


def files_written() -> tuple[Path, ...]:
    """Return the files that `replace_files` wrote last in this process, unless it has begun to write others."""
    return tuple(_written)


def abandon_files() -> None:
    """Remove the temporary files of `replace_file`, because the process ends without leaving its blocks."""
    for temporary in list(_unfinished):
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replace_file(path: Path, *, force: bool = True, is_result: bool = True) -> Iterator[BinaryIO]:
    """Yield a binary file, open for reading and writing, that replaces `path` when the block ends without an error.

    The data is written to a temporary file in the folder of `path` (without a name, where the system can do that) and
    flushed to disk. The file then gets the permission bits of the file it replaces, or those of the umask, and takes its
    place in one step. After any error or interruption, `path` is as it was before and the temporary file is gone.

    Args:
        path: the file.
        force: replace it if it was created while the block ran.
        is_result: whether the user asked for this file, so that an interruption says that it was written.

    Raises:
        DestinationExistsError: `force` is false, and `path` was created while the block ran.
        WriteError: the system refused: no space, no permission, no such folder.
    """
    with replace_files(force=force, is_result=is_result) as replacement:
        yield replacement.open(path)


@contextlib.contextmanager
def replace_files(*, force: bool = True, is_result: bool = True) -> Iterator[Replacement]:
    """Yield a `Replacement`, whose files take their places together when the block ends without an error.

    All data is on disk before the first file takes its place, and they do so in the order in which they were opened. After
    any error or interruption, all paths are as they were before: those replaced already get their old files back.

    Raises:
        DestinationExistsError, WriteError: see `replace_file`.
    """
    replacement = Replacement()
    try:
        yield replacement
        replacement.commit(force=force, is_result=is_result)
    except OSError as error:
        raise WriteError(
            f"cannot write {replacement.current}: {error.strerror or error}; nothing was changed"
        ) from error
    finally:
        replacement.discard()


@dataclass(frozen=True)
class _NewFile:
    path: Path
    temporary: Path
    file: BinaryIO
    identity: tuple[int, int]
    unnamed: bool
    mode: int

    def finish(self) -> None:
        """Put all data on disk."""
        self.file.flush()
        if hasattr(os, "fchmod"):
            os.fchmod(self.file.fileno(), self.mode)
        os.fsync(self.file.fileno())
        if not self.unnamed:
            self.file.close()

    def take_place(self, *, force: bool, is_result: bool) -> None:
        """Give it its name."""
        _unfinished.pop(self.temporary, None)  # an interruption from here on may find the file written
        if self.unnamed:
            self._name(force)
        elif force or not _link_new(self.temporary, self.path):
            os.replace(self.temporary, self.path)
        if is_result:
            _written.append(self.path)
        _sync_folder(self.path.parent)

    def _name(self, force: bool) -> None:
        """Give a file without a name its own: in one step if that is free, so that a kill leaves nothing behind."""
        try:
            self._link(self.path)
        except FileExistsError:
            if not force:
                raise _exists_now(self.path) from None
            self._link(self.temporary)
            os.replace(self.temporary, self.path)

    def _link(self, name: Path) -> None:
        descriptor = self.file.fileno()
        # With a directory descriptor, here unused, Python calls linkat, which follows the link.
        os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor, follow_symlinks=True)

    def withdraw(self) -> None:
        """Remove it from its place, unless it is another file that is there."""
        with contextlib.suppress(FileNotFoundError):
            if Stamp.of(self.path).identity == self.identity:
                self.path.unlink()


class Replacement:
    """Files that will take their places together; see `replace_files`.

    Attributes:
        current: the file that is being written.
    """

    def __init__(self) -> None:
        self.current = Path()
        self._files: list[_NewFile] = []

    def open(self, path: Path) -> BinaryIO:
        """Return a binary file, open for reading and writing, that will replace `path`.

        Raises:
            WriteError: the system refused.
        """
        self.current, temporary = path, _temporary_name(path)
        _written.clear()
        _unfinished[temporary] = path
        try:
            mode = _mode_for(path)
            handle = _open_unnamed(path.parent)
            unnamed = handle is not None
            if handle is None:
                handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            identity = Stamp.of(handle).identity
        except OSError as error:
            del _unfinished[temporary]
            raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
        file = os.fdopen(handle, "w+b")
        self._files.append(_NewFile(path, temporary, file, identity, unnamed, mode))
        return file

    def commit(self, *, force: bool, is_result: bool) -> None:
        """Put the files in their places, or leave all as it was."""
        for new in self._files:
            self.current = new.path
            new.finish()
        with contextlib.ExitStack() as done, contextlib.ExitStack() as undo:
            if len(self._files) > 1:
                undo.callback(_written.clear)
            for new in self._files:
                self.current = new.path
                if len(self._files) > 1:
                    _remember(new, undo, done)
                new.take_place(force=force, is_result=is_result)
            undo.pop_all()

    def discard(self) -> None:
        """Close the files, and remove what has not taken its place."""
        for new in self._files:
            with contextlib.suppress(OSError):  # data that could not be written, which was reported
                new.file.close()
            with contextlib.suppress(OSError):
                new.temporary.unlink()
            _unfinished.pop(new.temporary, None)


def _remember(new: _NewFile, undo: contextlib.ExitStack, done: contextlib.ExitStack) -> None:
    """Let `undo` put back what is in the place of a file now, and let `done` forget it."""
    if not os.path.lexists(new.path):
        undo.callback(new.withdraw)
        return
    old = _temporary_name(new.path)
    done.callback(_forget, old)
    try:
        os.link(new.path, old, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(new.path, old, follow_symlinks=False)
    undo.callback(os.replace, old, new.path)


def _forget(path: Path) -> None:
    """Remove a file, which does no harm if the system refuses."""
    with contextlib.suppress(OSError):
        path.unlink()


def _exists_now(path: Path) -> DestinationExistsError:
    return DestinationExistsError(f"{path} exists now; use {option('force', True)} to overwrite it")


def _link_new(temporary: Path, path: Path) -> bool:
    """Give `temporary` the name `path` if that is free; return False if the file system has no hard links."""
    try:
        os.link(temporary, path)
    except OSError:
        if os.path.lexists(path):
            raise _exists_now(path) from None
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
