"""Files of the Hub on this machine, through huggingface_hub's cache."""

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
from bhk.base.files import ReadError
from bhk.base.hashes import git_blob, sha256
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.hub.address import FILES, Address, address_of
from bhk.hub.errors import HubBusyError, HubError, HubFileNotFoundError, HubUnreachableError
from bhk.hub.explained import explained

_CLOCK = 3  # seconds that the clock of a file system may be behind

Advance = Callable[[int, int], None]  # (bytes done, all bytes)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Copy:
    """A local copy of a file of a repository.

    Attributes:
        path: the file in the cache.
        commit: the commit it comes from.
        is_current: whether the Hub was asked; if not, the file there may have changed or be gone.
    """

    path: Path
    commit: str
    is_current: bool


def local_file(path_or_repo: str | os.PathLike[str]) -> Path:
    """Return the path of a local file, or of the local copy of a .bhk file on the Hub: see `with_bhk_file`.

    A folder stands for its model.bhk, or the only .bhk file in it; a folder with a checkpoint stands for itself.

    Raises:
        ReadError: the name is empty.
        HubError: the Hub did not provide the file.
    """
    if path_or_repo == "":
        raise ReadError("the name of the file is empty; is a variable not set?")
    address = address_of(path_or_repo)
    return _in_folder(Path(path_or_repo)) if address is None else with_bhk_file(address, fetch_file)


def with_bhk_file(address: Address, get: Callable[[Address, str], Found]) -> Found:
    """Return `get(address, name)` for the .bhk file that `address` stands for.

    That is the file it names; or model.bhk, or the only .bhk file, in the folder it names.

    Raises:
        HubError: there is no such file, there are several, or `get` raises it.
    """
    folder = f"{address.path}/" if address.path else ""
    try:
        return get(address, address.path if address.path and address.path.endswith(BHK_SUFFIX) else folder + MODEL_FILE)
    except (HubFileNotFoundError, HubUnreachableError) as error:
        # Without a network, the cache may still have one with another name.
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


def fetch_file(address: Address, name: str, advance: Advance | None = None) -> Path:
    """Return the local copy of the file `name` of the repository: see `fetch_copy`."""
    return fetch_copy(address, name, advance).path


def fetch_copy(address: Address, name: str, advance: Advance | None = None) -> Copy:
    """Download the file `name` of the repository unless the cache has it. If the Hub cannot be reached, the cache is enough.

    A download is compared with the hash that the Hub announced, and discarded if it differs.

    Args:
        address: the repository and the revision.
        name: path of the file in the repository.
        advance: called with (bytes done, all bytes) during a download; None: the library draws its own bar.

    Raises:
        HubFileNotFoundError: the repository has no such file.
        HubError: the repository is missing, private or gated; or there is no network or no space; or the download is damaged.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # slow to import, and rarely needed

    with explained(address.at(name)):
        known = try_to_load_from_cache(address.repository, name, revision=address.revision)
        if isinstance(known, str):
            # The library would silently use it, even if the Hub refuses the file.
            path = Path(known)
            there, here = _commit_at_hub(address, name), commit_of(path, name)
            if there in (None, here):
                return Copy(path, here, there is not None)
        started = time.time()
        bar = None if advance is None else _bar(advance)
        path = Path(hf_hub_download(address.repository, name, revision=address.revision, tqdm_class=bar))
        if path.stat().st_mtime > started - _CLOCK and not _is_intact(path):
            discard(path)
            raise HubError(
                f"{address.at(name)} was damaged in the download (its hash is not the one the Hub announced); try again"
            )
        return Copy(path, commit_of(path, name), True)


def cached_file(address: Address, name: str) -> Path:
    """Return the cached copy of the file `name` of the repository.

    Raises:
        HubUnreachableError: there is none.
    """
    from huggingface_hub import hf_hub_download  # slow to import, and rarely needed

    with explained(address.at(name)):
        return Path(hf_hub_download(address.repository, name, revision=address.revision, local_files_only=True))


def may_exist(address: Address, name: str, commit: str) -> bool:
    """Return whether a commit of the repository may have a file that is not in the cache, as far as the cache knows.

    The library notes there which files the Hub has said not to exist.
    """
    from huggingface_hub import try_to_load_from_cache  # slow to import, and rarely needed

    return try_to_load_from_cache(address.repository, name, revision=commit) is None


def list_files(address: Address) -> list[str]:
    """Return the paths of the files of the repository; of the cached ones if the Hub cannot be reached.

    Raises:
        HubError: the repository is missing or private, or there is no network and nothing in the cache.
    """
    from huggingface_hub import HfApi, errors, snapshot_download  # slow to import, and rarely needed

    with explained(address):
        try:
            # Not list_repo_files, which retries for 23 s without a network.
            info = HfApi().repo_info(address.repository, revision=address.revision, repo_type=address.kind, timeout=20)
            return [file.rfilename for file in getattr(info, "siblings", None) or []]
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
            raise
        except Exception as unreachable:
            try:
                folder = snapshot_download(
                    address.repository, revision=address.revision, repo_type=address.kind, local_files_only=True
                )
            except (OSError, ValueError, errors.EntryNotFoundError):
                raise errors.LocalEntryNotFoundError(str(address)) from unreachable
            paths = Path(folder).rglob("*")
            return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def commit_of(path: Path, name: str) -> str:
    """Return the commit of `path`, the cached copy of the file `name` of a repository."""
    return path.parents[len(PurePosixPath(name).parts) - 1].name


def discard(path: Path) -> None:
    """Remove a file from the cache, so that it is downloaded again."""
    for found in (path.resolve(), path):
        with contextlib.suppress(FileNotFoundError):
            found.unlink()


def _in_folder(path: Path) -> Path:
    try:
        names = [entry.name for entry in path.iterdir() if entry.name.endswith(FILES)] if path.is_dir() else []
    except OSError:  # reported when it is read
        return path
    found = [name for name in names if name.endswith(BHK_SUFFIX)]
    if len(found) < len(names) or not found or (MODEL_FILE not in found and len(found) > 1):
        return path
    return path / (MODEL_FILE if MODEL_FILE in found else found[0])


def _commit_at_hub(address: Address, name: str) -> str | None:
    """Return the current commit of the revision; None if the Hub cannot be reached."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        with explained(address.at(name)):
            url = hf_hub_url(address.repository, name, revision=address.revision)
            return get_hf_file_metadata(url).commit_hash
    except (HubUnreachableError, HubBusyError):
        return None


def _is_intact(path: Path) -> bool:
    """Return whether a cached file has the hash that its blob is named after, or no such name (without symbolic links)."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):  # a large file: its own hash
        return sha256(path) == name
    if re.fullmatch(r"[0-9a-f]{40}", name):  # git's
        return git_blob(path) == name
    return True


def _bar(advance: Advance) -> type[Any]:
    """Return a tqdm class that draws nothing and calls `advance` instead."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})
            self._done = settings.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            advance(self._done, max(self.total or 0, self._done))

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignore the second bar of some downloads, which counts bytes from the network."""

        set_transfer_postfix_str = tqdm.set_postfix_str

    return Bar
