"""Uploading files to a repository on the Hub: what it holds, one atomic commit, and a check of the result."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bhk.base.errors import shown
from bhk.base.hashes import Content, git_blob, sha256
from bhk.hub.address import Address
from bhk.hub.errors import HubError
from bhk.hub.explained import explained
from bhk.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Gate: TypeAlias = Literal["auto", "manual"]  # whether access is granted to everybody who asks, or by hand

MAIN = "main"
_TIMEOUT = 20  # seconds to wait for information about the repository
_CHANGED = (409, 412)  # status codes: the branch is no longer at the parent of the commit
_OTHERWISE = "push again later; what has arrived is not sent again"
_EVERYTHING = "# nothing is left out\n"  # replaces the repository's .gitignore, which the Hub would obey


class NoTokenError(HubError):
    """Nobody is logged in to the Hub, which writing requires."""


class ChangedMeanwhileError(HubError):
    """Somebody else committed to the repository in the meantime; nothing was committed."""


class RefusedContentError(HubError):
    """The Hub does not accept the metadata of a card, or a file."""


class ChangedFileError(HubError):
    """A file changed on this machine while it was being sent; nothing was committed."""


class NotArrivedError(HubError):
    """A commit was made, but the repository does not hold what was sent."""


@dataclass(frozen=True)
class RemoteEntry:
    """A file of a repository.

    Attributes:
        bytes: its size.
        sha256: SHA-256 of a file in large file storage; None for a file in git itself.
        blob: git's hash of the file, or of the pointer to it in large file storage.
    """

    bytes: int
    sha256: str | None
    blob: str


@dataclass(frozen=True)
class Snapshot:
    """What a repository holds at a commit.

    Attributes:
        repository: its name, which differs from the requested one if it was renamed.
        commit: the commit.
        private: whether the repository is private.
        gated: whether those who want its files have to ask for access.
        entries: the requested files that exist, by name.
        names: the names of all files.
    """

    repository: str
    commit: str
    private: bool
    gated: bool
    entries: dict[str, RemoteEntry]
    names: frozenset[str]

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing but what the Hub puts into a new repository."""
        return self.names <= {".gitattributes"}


@dataclass(frozen=True)
class PullRequest:
    """An open pull request."""

    url: str
    revision: str


@dataclass(frozen=True)
class Commit:
    """A new commit, and the pull request that was opened with it."""

    id: str
    pull_request: PullRequest | None


class LocalFile:
    """A file to upload.

    Attributes:
        name: its name in the repository.
        content: the local file, or bytes.
        bytes: its size.
    """

    def __init__(self, name: str, content: Content) -> None:
        """Note the state of the file, which must not change from now on."""
        self.name, self.content = name, content
        self._state = self._stat()
        self.bytes = len(content) if isinstance(content, bytes) else self._state[0]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its content in hexadecimal digits; may be set if it is known."""
        return sha256(self.content)

    @property
    def has_changed(self) -> bool:
        """Whether the file has changed since this object was made."""
        return self._stat() != self._state

    def equals(self, entry: RemoteEntry | None) -> bool:
        """Return whether a repository holds exactly this content."""
        if entry is None or entry.bytes != self.bytes:
            return False
        if entry.sha256 is not None:
            return entry.sha256 == self.sha256
        return entry.blob == git_blob(self.content)

    def _stat(self) -> tuple[int, ...]:
        if isinstance(self.content, bytes):
            return ()
        found = self.content.stat()
        return found.st_size, found.st_mtime_ns, found.st_ino


class Uploader:
    """Talks to the Hub about one repository. Every method raises HubError, without tokens in its text."""

    def __init__(self, repository: str) -> None:
        """Take the token from huggingface_hub.

        Raises:
            NoTokenError: there is none.
        """
        from huggingface_hub import HfApi, get_token  # slow to import, and rarely needed

        self.address = Address(repository)
        if get_token() is None:
            raise NoTokenError(
                f"cannot write to {self.address}: nobody is logged in to the Hub; run `hf auth login`, or set HF_TOKEN"
            )
        self._api: HfApi = HfApi(token=True, library_name="bhk", library_version=__version__)
        self._operations: dict[LocalFile, CommitOperationAdd] = {}

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"{self._api.endpoint}/{self.address.repository}"

    def look(self, names: Collection[str], revision: str = MAIN) -> Snapshot | None:
        """Return the state of the repository and of its files `names` at `revision`; None if it does not exist."""
        from huggingface_hub import RepoFile, errors

        repository = self.address.repository
        with explained(Address(repository, None, revision), _OTHERWISE):
            try:
                info = self._api.model_info(repository, revision=revision, timeout=_TIMEOUT)
            except errors.RepositoryNotFoundError as error:
                if error.response.status_code == 404:  # otherwise, the Hub does not accept the token
                    return None
                raise
            assert info.sha is not None
            found = self._api.get_paths_info(repository, list(names), revision=info.sha)
        entries = {
            file.path: RemoteEntry(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in found
            if isinstance(file, RepoFile)
        }
        names = frozenset(file.rfilename for file in info.siblings or ())
        return Snapshot(info.id, info.sha, bool(info.private), bool(info.gated), entries, names)

    def create(self, private: bool | None) -> None:
        """Create the repository. If `private` is None, the account's default applies."""
        with explained(self.address, _OTHERWISE):
            self._api.create_repo(self.address.repository, private=private, exist_ok=True)

    def gate_of(self, repository: str) -> Gate | None:
        """Return how another repository grants access to those who ask for it; None if nobody has to ask, or it is missing.

        A repository that this account may not see because of its gate counts as "manual", the stricter of the two.
        """
        from huggingface_hub import errors

        with explained(Address(repository), _OTHERWISE):
            try:
                gated = self._api.model_info(repository, timeout=_TIMEOUT).gated
            except errors.GatedRepoError:
                return "manual"
            except errors.RepositoryNotFoundError:
                return None
        return gated or None

    def gate(self, gate: Gate) -> None:
        """Require users to ask for access to the repository."""
        with explained(self.address, _OTHERWISE):
            self._api.update_repo_settings(self.address.repository, gated=gate)

    def open_pull_request(self, title: str) -> PullRequest | None:
        """Return the latest open pull request of this account with this title; None if there is none."""
        with explained(self.address, _OTHERWISE):
            discussions = self._api.get_repo_discussions(
                self.address.repository,
                author=self._api.whoami()["name"],
                discussion_type="pull_request",
                discussion_status="open",
            )
            ours = [discussion for discussion in discussions if discussion.title == title]
        if not ours:
            return None
        latest = max(ours, key=lambda discussion: discussion.num)
        return PullRequest(latest.url, f"refs/pr/{latest.num}")

    def commit(
        self,
        files: Collection[LocalFile],
        parent: str,
        *,
        message: str,
        revision: str = MAIN,
        create_pr: bool = False,
    ) -> Commit:
        """Send `files` and commit all of them or none. What the Hub's storage already has is not sent.

        A .gitignore in the repository is ignored, because the files were named explicitly.

        Args:
            files: the files.
            parent: the commit that `revision` must still be at, or that a pull request starts from.
            message: title of the commit and of the pull request.
            revision: the branch, or refs/pr/N.
            create_pr: open a pull request.

        Raises:
            ChangedMeanwhileError: `revision` is at another commit.
            ChangedFileError: a file has changed on this machine.
            RefusedContentError: the card's metadata is wrong, or storage does not accept a file.
        """
        from huggingface_hub import errors

        failure: HubError | None = None
        with explained(Address(self.address.repository, None, revision), _OTHERWISE), _silence():
            operations = [self._operation(file) for file in files]
            where: dict[str, Any] = {"repo_id": self.address.repository, "revision": revision, "create_pr": create_pr}
            try:
                self._api.preupload_lfs_files(
                    additions=operations, free_memory=False, gitignore_content=_EVERYTHING, **where
                )
                _check_unchanged(files)  # storage may not notice, because it trusts the hash that it was given
                made = self._api.create_commit(
                    operations=operations, commit_message=message, parent_commit=parent, **where
                )
            except errors.HfHubHTTPError as error:
                if error.response.status_code not in _CHANGED:
                    raise
                failure = ChangedMeanwhileError(
                    f"{self.address} was changed by somebody else in the meantime; nothing was committed, push again"
                )
            except json.JSONDecodeError:  # a ValueError, but about an answer that is not from the Hub
                raise
            except ValueError as error:  # about a card's metadata, or a file that storage does not accept
                failure = RefusedContentError(
                    f"the Hub does not accept this for {self.address}: {shown(' '.join(str(error).split()), 300)}"
                )
        if failure is not None:
            raise failure  # here, so that its context is not an error that holds requests
        pull_request = PullRequest(made.pr_url, made.pr_revision) if made.pr_url and made.pr_revision else None
        return Commit(made.oid, pull_request)

    def check(self, files: Collection[LocalFile], commit: str) -> None:
        """Compare hashes with the files of the repository at `commit`.

        Raises:
            NotArrivedError: a file is missing there or differs.
        """
        snapshot = self.look([file.name for file in files], commit)
        wrong = [file.name for file in files if snapshot is None or not file.equals(snapshot.entries.get(file.name))]
        if wrong:
            raise NotArrivedError(
                f"{self.address} at commit {commit[:8]} does not hold what was sent: {', '.join(wrong)} "
                "differ from the local files; push again"
            )

    def _operation(self, file: LocalFile) -> CommitOperationAdd:
        """Return the operation for a file. It is reused after a failed commit, because it knows what has arrived."""
        from huggingface_hub import CommitOperationAdd

        if file not in self._operations:
            operation = CommitOperationAdd(file.name, file.content)
            operation.upload_info.sha256 = bytes.fromhex(file.sha256)
            self._operations[file] = operation
        return self._operations[file]


def _check_unchanged(files: Collection[LocalFile]) -> None:
    changed = [file.name for file in files if file.has_changed]
    if changed:
        raise ChangedFileError(
            f"{', '.join(changed)} changed on this machine during the upload; nothing was committed, push again"
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep huggingface_hub from printing progress bars and warnings, some of which contain signed URLs."""
    from huggingface_hub import utils

    level, bars = utils.logging.get_verbosity(), not utils.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils.logging.set_verbosity(utils.logging.ERROR)
        utils.disable_progress_bars()
        try:
            yield
        finally:
            utils.logging.set_verbosity(level)
            if bars:
                utils.enable_progress_bars()
