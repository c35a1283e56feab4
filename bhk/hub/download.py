"""Files of the Hub as files on this machine, through huggingface_hub's cache."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from bhk.base.errors import listed
from bhk.base.hashes import git_blob, sha256
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.hub.address import FILES, Address, address_of
from bhk.hub.errors import HubBusyError, HubError, HubFileNotFoundError, HubUnreachableError
from bhk.hub.explained import explained

_CLOCK = 3  # seconds by which the clock of a file system may be behind

Progress = Callable[[int, int], None]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Copy:
    """A file of a repository on this machine.

    Attributes:
        path: in the cache.
        commit: which it is from.
        is_current: whether the Hub was asked; else there may be a newer one, or none any more.
    """

    path: Path
    commit: str
    is_current: bool


def local_file(path_or_repo: str | os.PathLike[str]) -> Path:
    """Return the path of a file, or of the copy on this machine of a .bhk file on the Hub: see `with_bhk_file`.

    A folder means its model.bhk, or else the only .bhk file in it; but itself, if it holds a checkpoint of another format.

    Raises:
        HubError: the Hub did not give the file.
    """
    address = address_of(path_or_repo)
    return _in_folder(Path(path_or_repo)) if address is None else with_bhk_file(address, fetch_file)


def with_bhk_file(address: Address, get: Callable[[Address, str], Found]) -> Found:
    """Return `get(address, name)` for the .bhk file that `address` means.

    That is the file it names; else model.bhk in the folder it names, or else the only .bhk file there.

    Raises:
        HubError: there is no such file or there are several, or `get` raises it.
    """
    folder = f"{address.path}/" if address.path else ""
    try:
        return get(address, address.path if address.path and address.path.endswith(BHK_SUFFIX) else folder + MODEL_FILE)
    except (HubFileNotFoundError, HubUnreachableError) as error:
        # Without a network, perhaps the cache has one of another name.
        if address.path and address.path.endswith(BHK_SUFFIX):
            raise
        reason = error
    names = [name for name in list_files(address) if name.endswith(BHK_SUFFIX) and name.startswith(folder)]
    if len(names) == 1:
        return get(address, names[0])
    if isinstance(reason, HubUnreachableError):
        raise reason
    what = (
        f"several {BHK_SUFFIX} files: {listed(names)}; name one, as {address.at(names[0])}"
        if names
        else f"no {BHK_SUFFIX} file; convert a checkpoint"
    )
    raise HubFileNotFoundError(f"{address} holds {what}")


def fetch_file(address: Address, name: str, progress: Progress | None = None) -> Path:
    """Download the file `name` of the repository (or find it in the cache) and return the local file: see `fetch_copy`."""
    return fetch_copy(address, name, progress).path


def fetch_copy(address: Address, name: str, progress: Progress | None = None) -> Copy:
    """Download the file `name` of the repository, unless the cache has it; what it has is enough where the Hub cannot be asked.

    What was just downloaded is compared with the hash that the Hub announced, and not kept if it differs.

    Args:
        progress: called with (bytes there, all bytes) while something is downloaded; None: the library's own bar.

    Raises:
        HubFileNotFoundError: the repository has no such file.
        HubError: missing, private or gated repository, no network, no space, damaged on its way.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # slow to import, and rarely needed

    with explained(address.at(name)):
        known = try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(known, str):
            # The library itself would take it without a word, even if the Hub refuses the file.
            path = Path(known)
            there, here = _commit_at_hub(address, name), commit_of(path, name)
            if there in (None, here):
                return Copy(path, here, there is not None)
        started = time.time()
        bar = None if progress is None else _bar(progress)
        path = Path(hf_hub_download(address.repository, name, revision=address.revision, tqdm_class=bar))
        if path.stat().st_mtime > started - _CLOCK and not _is_intact(path):
            discard(path)
            raise HubError(f"{address.at(name)} was damaged on its way (other bytes than the Hub announced); try again")
        return Copy(path, commit_of(path, name), True)


def cached_file(address: Address, name: str) -> Path:
    """Return the copy of the file `name` of the repository that is in the cache.

    Raises:
        HubUnreachableError: there is none.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and rarely needed

    with explained(address.at(name)):
        return Path(hf_hub_download(address.repository, name, revision=address.revision, local_files_only=True))


def list_files(address: Address) -> list[str]:
    """Return the paths of the files of the repository, or of those in the cache when the Hub cannot be asked.

    Raises:
        HubError: missing or private repository, or no network and nothing in the cache.
    """
    from huggingface_hub import HfApi, errors, snapshot_download  # slow to import, and rarely needed

    with explained(address):
        try:
            # Not list_repo_files: without a network it tries again for 23 s before it says so.
            info = HfApi().model_info(address.repository, revision=address.revision, timeout=20)
            return [file.rfilename for file in info.siblings or []]
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
            raise
        except Exception as unreachable:
            try:
                folder = snapshot_download(address.repository, revision=address.revision, local_files_only=True)
            except (OSError, ValueError, errors.EntryNotFoundError):
                raise errors.LocalEntryNotFoundError(str(address)) from unreachable
            paths = Path(folder).rglob("*")
            return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def commit_of(path: Path, name: str) -> str:
    """Return the commit that `path`, the file `name` of a repository in the cache, is from."""
    return path.parents[len(PurePosixPath(name).parts) - 1].name


def discard(path: Path) -> None:
    """Remove a file from the cache, so that it is downloaded anew."""
    for found in (path.resolve(), path):
        with contextlib.suppress(FileNotFoundError):
            found.unlink()


def _in_folder(path: Path) -> Path:
    try:
        names = [entry.name for entry in path.iterdir() if entry.name.endswith(FILES)] if path.is_dir() else []
    except OSError:  # whoever reads it says so
        return path
    found = [name for name in names if name.endswith(BHK_SUFFIX)]
    if len(found) < len(names) or not found or (MODEL_FILE not in found and len(found) > 1):
        return path
    return path / (MODEL_FILE if MODEL_FILE in found else found[0])


def _commit_at_hub(address: Address, name: str) -> str | None:
    """Return the commit that the revision is at now; None when the Hub cannot be asked."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        with explained(address.at(name)):
            url = hf_hub_url(address.repository, name, revision=address.revision)
            return get_hf_file_metadata(url).commit_hash
    except (HubUnreachableError, HubBusyError):
        return None


def _is_intact(path: Path) -> bool:
    """Return whether a file of the cache has the hash that its blob is named after; without symbolic links, no name says."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):  # a large file: its own hash
        return sha256(path) == name
    if re.fullmatch(r"[0-9a-f]{40}", name):  # git's
        return git_blob(path) == name
    return True


def _bar(progress: Progress) -> type[Any]:
    """Return a class of bars that show nothing and tell `progress` how far they are."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})
            self._done = settings.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            progress(self._done, max(self.total or 0, self._done))

        def update_transfer(self, n: float | None = 1) -> None:
            """Pass over the second bar, of what came through the network, that some downloads have."""

        set_transfer_postfix_str = tqdm.set_postfix_str

    return Bar
