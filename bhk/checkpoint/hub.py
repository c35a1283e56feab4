"""Checkpoints on the Hugging Face Hub: which files they are, and fetching only those."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bhk.checkpoint.companions import COMPANIONS, has_companions
from bhk.checkpoint.errors import CheckpointError, HubError, shown
from bhk.checkpoint.folder import INDEX_SUFFIX, SUFFIXES, pick
from bhk.checkpoint.shards import read_index

SCHEME = "hf://"
_REPOSITORY = r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*"
_ADDRESS = re.compile(rf"(?P<repository>{_REPOSITORY})(?:/(?P<path>[^@]+))?(?:@(?P<revision>.+))?")
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{6,}|(?<=[Bb]earer )\S+")


@dataclass(frozen=True)
class Address:
    """A repository on the Hub, a file or folder in it (None: its top), and a revision (None: the default one)."""

    repository: str
    path: str | None = None
    revision: str | None = None


def parse_address(text: str) -> Address:
    """Return what `hf://user/repo[/path][@revision]` names.

    Raises:
        HubError: it is malformed.
    """
    match = _ADDRESS.fullmatch(text.removeprefix(SCHEME).strip("/"))
    if match is None:
        raise HubError(f"{redact(shown(text))} is no Hub address; expected {SCHEME}user/repo[/path/in/repo][@revision]")
    return Address(**match.groupdict())


def looks_like_repository(text: str) -> bool:
    """Return whether `text` may be `user/repo`: two names, not the path of a checkpoint or into something that is here."""
    return bool(re.fullmatch(_REPOSITORY, text)) and not text.endswith(SUFFIXES) and not Path(text).parent.exists()


def redact(text: str) -> str:
    """Return `text` without access tokens."""
    return _TOKEN.sub("hf_***", text)


def fetch(address: Address) -> Path:
    """Download the checkpoint at `address` (or find it in the cache) and return its local file: an index, if sharded.

    Its companions come with it, as far as the repository has them.

    Raises:
        HubError: missing, private or gated repository, no network, no space; the message is one line without tokens.
        NotACheckpointError, AmbiguousCheckpointError: the repository holds no one checkpoint.
    """
    with _explained(address):
        name = _choose(address)
        path = _download(address, name)
        folder, slash, file = name.rpartition("/")
        if name.endswith(INDEX_SUFFIX):
            for shard in sorted(set(read_index(path).values())):
                _download(address, folder + slash + shard)
        for companion in COMPANIONS if has_companions(file) else ():
            _download_if_there(address, folder + slash + companion)
        return path


def fetch_file(address: Address, name: str) -> Path:
    """Download the file `name` of the repository (or find it in the cache) and return the local file.

    Raises:
        HubError: see `fetch`.
    """
    with _explained(replace(address, path=name)):
        return _download(address, name)


@contextlib.contextmanager
def _explained(address: Address) -> Iterator[None]:
    """Give what goes wrong at the Hub one line."""
    try:
        yield
    except CheckpointError:
        raise
    # The library lets through whatever its HTTP client, the file system and the server's answers raise.
    except Exception as error:
        raise HubError(_explain(address, error)) from None  # the original text may hold a token


def _choose(address: Address) -> str:
    """Return the path in the repository of the file to read."""
    if address.path is not None and address.path.endswith((*SUFFIXES, INDEX_SUFFIX, ".zip")):
        return address.path
    names = _list(address)
    if address.path in names:
        return address.path
    folder = f"{address.path}/" if address.path else ""
    inside = [name[len(folder) :] for name in names if name.startswith(folder) and "/" not in name[len(folder) :]]
    return folder + pick(inside, f"{SCHEME}{address.repository}/{folder}".rstrip("/")).name


def _list(address: Address) -> list[str]:
    """Return the files of the repository, or those in the cache when the Hub cannot be asked."""
    from huggingface_hub import HfApi, errors, snapshot_download  # slow to import, and rarely needed

    try:
        # Not list_repo_files: without a network it tries again for 23 s before it says so.
        info = HfApi().model_info(address.repository, revision=address.revision, timeout=20)
        return [file.rfilename for file in info.siblings or []]
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception as unreachable:
        try:
            cached = Path(snapshot_download(address.repository, revision=address.revision, local_files_only=True))
        except (OSError, ValueError, errors.EntryNotFoundError):
            raise unreachable from None
        return [path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file()]


def _download(address: Address, name: str) -> Path:
    from huggingface_hub import hf_hub_download  # slow to import, and rarely needed

    return Path(hf_hub_download(address.repository, name, revision=address.revision))


def _download_if_there(address: Address, name: str) -> None:
    from huggingface_hub import errors

    with contextlib.suppress(errors.EntryNotFoundError):  # without a network: neither is it in the cache
        _download(address, name)


def _explain(address: Address, error: Exception) -> str:
    """Return one line on what went wrong at the Hub and what to do."""
    from huggingface_hub import errors

    where = f"{SCHEME}{address.repository}"
    page = f"https://huggingface.co/{address.repository}"
    if isinstance(error, errors.GatedRepoError):
        return f"{where} is gated; accept its terms at {page}, then run `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{where} does not exist or is private; check the name, or run `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{where} has no revision {shown(address.revision)!r}; see {page}/tree/main"
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return (
            f"cannot reach the Hub for {where}, and it is not in the cache; check the network and HF_HUB_OFFLINE, or"
            f" download it from {page}"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"{where} has no file {shown(address.path)!r}; see {page}/tree/main"
    reason = redact(shown(" ".join(str(error).split()) or type(error).__name__, 200))
    return f"cannot get {where} from the Hub ({reason}); check the network, or download it from {page}"
