"""Compressed models from the Hub: `bhk.pull`."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bhk.base.files import ReadError, check_destination, replace_file
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.container.errors import FormatError
from bhk.hub.address import Address, parse_address
from bhk.hub.download import discard, fetch_copy, with_bhk_file
from bhk.hub.errors import HubError
from bhk.publishing.sending import Progress
from bhk.tasks.verify import verify


class UnsoundFileError(HubError):
    """What the Hub gave is no sound .bhk file."""


@dataclass(frozen=True)
class PullReport:
    """What `bhk.pull` did.

    Attributes:
        path: the file that was written.
        repository, file, commit: where it is from.
        from_cache: the Hub could not be asked, and this is the copy in the cache: there may be a newer one.
        bytes: its size.
        tensors, streams: how many of them were checked.
    """

    path: Path
    repository: str
    file: str
    commit: str
    from_cache: bool
    bytes: int
    tensors: int
    streams: int


def pull(
    repository: str,
    file: str | None = None,
    dst: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> PullReport:
    """Get a .bhk file from the Hub, check all of it, and only then put it in its place.

    It is downloaded through huggingface_hub's cache: what is there already is not downloaded again. Where the
    Hub cannot be asked (no network, offline mode), what the cache has is enough; what the Hub refuses is not taken from there.

    Args:
        repository: "user/repo", or "hf://user/repo[/file.bhk][@revision]".
        file: its path in the repository; None: model.bhk, or the only .bhk file there is.
        dst: the file to write, or a folder for it; None: the current one. In a folder it is called as on the Hub, or
            model.bhk as the repository.
        force: replace `dst` if it exists.
        progress: called with (what is being done, bytes done, all bytes).

    Raises:
        UnsoundFileError: the file on the Hub, or its copy in the cache, is damaged; the copy was removed.
        HubError: the Hub did not give the file.
        WriteError: `dst` exists and `force` is false, or cannot be written; it is left as it was.
    """
    address = _address(repository, file)
    name = _default_name(address)
    target = Path(dst or name)
    if target.is_dir() or os.fspath(dst or name).endswith(("/", os.sep)):
        target /= name
    check_destination(target, force=force)

    def get(address: Address, name: str) -> PullReport:
        copy = fetch_copy(address, name, progress and functools.partial(progress, "Downloading"))
        try:
            found = verify(copy.path, progress=progress and functools.partial(progress, "Checking"))
        except (ReadError, FormatError) as error:
            discard(copy.path)
            raise UnsoundFileError(
                f"{address.at(name)} is no sound .bhk file: {error}; nothing was written, and it is no longer in the cache: "
                "pull again, or ask who published it"
            ) from error
        with copy.path.open("rb") as source, replace_file(target, force=force) as output:
            shutil.copyfileobj(source, output)
        return PullReport(
            path=target,
            repository=address.repository,
            file=name,
            commit=copy.commit,
            from_cache=not copy.is_current,
            bytes=found.bytes,
            tensors=len(found.layers),
            streams=found.streams,
        )

    return with_bhk_file(address, get)


def _address(repository: str, file: str | None) -> Address:
    address = parse_address(repository)
    if file is None:
        return address
    if address.path is not None:
        raise HubError(f"{address} names a file already, and {file!r} was given, too; leave out one of them")
    if not file.endswith(BHK_SUFFIX):
        raise HubError(f"{file!r} is no {BHK_SUFFIX} file; get others with `hf download`")
    return address.at(file)


def _default_name(address: Address) -> str:
    name = PurePosixPath(address.path or MODEL_FILE).name
    return (
        name if name.endswith(BHK_SUFFIX) and name != MODEL_FILE else address.name.removesuffix(BHK_SUFFIX) + BHK_SUFFIX
    )
