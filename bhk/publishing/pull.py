"""Getting compressed models from the Hub: `bhk.pull`."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from bhk.base.files import check_destination, copy_into, reading, replace_file
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.texts import counted, size
from bhk.container.errors import FormatError
from bhk.hub.address import Address, parse_address
from bhk.hub.download import discard, fetch_copy, with_bhk_file
from bhk.hub.errors import HubError
from bhk.tasks.verify import verify


class UnsoundFileError(HubError):
    """The file from the Hub is not an intact .bhk file."""


@dataclass(frozen=True)
class PullReport(Report):
    """What `bhk.pull` returns.

    Attributes:
        path: the file that was written.
        repository, file, commit: where it comes from.
        from_cache: the Hub could not be asked, so this is the copy in the cache, and there may be a newer one.
        bytes: size of the file.
        tensors, streams: how many were checked.
        there_already: an equal file was there, and was left alone.
    """

    path: Path
    repository: str
    file: str
    commit: str
    from_cache: bool
    bytes: int
    tensors: int
    streams: int
    there_already: bool = False

    @property
    def hints(self) -> tuple[str, ...]:
        """A warning if the Hub could not be asked."""
        if not self.from_cache:
            return ()
        return (f"the Hub could not be reached; this is the cached copy, of commit {self.commit[:8]}",)

    def lines(self) -> Iterator[str]:
        """Yield the report as text."""
        checked = f"{counted(self.tensors, 'tensor')} and {counted(self.streams, 'stream')} checked"
        there = "there already, " if self.there_already else ""
        yield f"{self.path}: {there}{size(self.bytes)}, {checked}, from {self.repository} at commit {self.commit[:8]}"


def pull(
    repository: str,
    out: str | os.PathLike[str] | None = None,
    *,
    file: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PullReport:
    """Download a .bhk file from the Hub, verify all of it, and only then write it. An equal file there is left alone.

    The download goes through huggingface_hub's cache, so nothing is downloaded twice. If the Hub cannot be reached, the cached
    copy is used; if the Hub refuses, it is not.

        bhk.pull("user/sam-b-bhk")  # writes sam-b-bhk.bhk

    Args:
        repository: "user/repo", or "hf://user/repo[/file.bhk][@revision]".
        out: the file to write, or a folder for it; None: the current folder. In a folder, the file keeps its name on the
            Hub, but model.bhk is named after the repository.
        file: path of the file in the repository; None: model.bhk, or the only .bhk file.
        force: overwrite `out` if it exists and differs.
        progress: called with (stage, bytes done, all bytes).

    Raises:
        UnsoundFileError: the file on the Hub or its cached copy is damaged; the cached copy was removed.
        HubError: the Hub did not provide the file.
        ReadError: the system could not read the cached copy, which stays.
        WriteError: `out` exists and differs and `force` is false, or it cannot be written; it is unchanged.
    """
    address = _address(repository, file)
    name = _default_name(address)
    target = Path(out or name)
    if target.is_dir() or os.fspath(out or name).endswith(("/", os.sep)):
        target /= name
    there = target.is_file()
    check_destination(target, force=force or there)

    def get(address: Address, name: str) -> PullReport:
        copy = fetch_copy(address, name, progress and partial(progress, "Downloading"))
        try:
            found = verify(copy.path, progress=progress)
        except FormatError as error:  # not ReadError: that the system cannot read it now says nothing about the copy
            discard(copy.path)
            raise UnsoundFileError(
                f"{address.at(name)} is not an intact .bhk file: {error}; nothing was written, and the cached copy was "
                "removed: pull again, or ask its publisher"
            ) from error
        with reading(target):
            equal = there and filecmp.cmp(copy.path, target, shallow=False)
        if not equal:
            check_destination(target, force=force)
            with replace_file(target, force=force) as output:
                copy_into(copy.path, output)
        return PullReport(
            path=target,
            repository=address.repository,
            file=name,
            commit=copy.commit,
            from_cache=not copy.is_current,
            bytes=found.bytes,
            tensors=len(found.layers),
            streams=found.streams,
            there_already=equal,
        )

    return with_bhk_file(address, get)


def _address(repository: str, file: str | None) -> Address:
    address = parse_address(repository)
    if file is None:
        return address
    if address.path is not None:
        raise HubError(f"{address} already names a file, but {file!r} was given as well; leave out one of them")
    if not file.endswith(BHK_SUFFIX):
        raise HubError(f"{file!r} is not a {BHK_SUFFIX} file; get other files with `hf download`")
    return address.at(file)


def _default_name(address: Address) -> str:
    name = PurePosixPath(address.path or MODEL_FILE).name
    if name.endswith(BHK_SUFFIX) and name != MODEL_FILE:
        return name
    return address.name.removesuffix(BHK_SUFFIX) + BHK_SUFFIX
