"""Sending a publication to a repository on the Hub: compare, build the card, commit, check."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bhk.base.errors import listed, shown
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.base.progress import Progress
from bhk.checkpoint.companions import COMPANIONS, CONFIG
from bhk.hub.address import SCHEME, Address
from bhk.hub.download import fetch_file
from bhk.hub.errors import HubError
from bhk.hub.upload import (
    MAIN,
    ChangedMeanwhileError,
    Commit,
    Gate,
    LocalFile,
    NotArrivedError,
    PullRequest,
    Snapshot,
    Uploader,
)
from bhk.publishing.card import make_card
from bhk.publishing.configuration import is_ours
from bhk.publishing.content import CardContent, PublicationError
from bhk.publishing.evaluations import lost_results
from bhk.publishing.repository import README

MOST_CARD_BYTES = 10_000_000
ATTEMPTS = 4  # to commit while others commit, too


class NotCheckedError(HubError):
    """A commit was made, but what it holds could not be checked."""


@dataclass(frozen=True)
class Publication:
    """What to publish.

    Attributes:
        content, template: what the card is made from.
        files: every file except the card.
    """

    content: CardContent
    template: str | None
    files: tuple[LocalFile, ...]

    def card(self, existing: str | None = None) -> str:
        """Return the text of README.md, with the hand-written parts of the existing card."""
        return make_card(self.content, existing=existing, template=self.template)


@dataclass(frozen=True)
class Destination:
    """Where to publish, and how; see `bhk.push`."""

    repository: str
    private: bool | None
    create_pr: bool
    revision: str
    message: str


@dataclass(frozen=True)
class Sent:
    """What the repository holds in the end.

    Attributes:
        commit: the commit that holds the files.
        created: whether the repository is new.
        pull_request: the pull request that holds them; None without one.
        files: all files of the publication, the card last.
        uploaded: names of the files that were sent.
        hints: what is not as it was asked for.
    """

    commit: str
    created: bool
    pull_request: PullRequest | None
    files: tuple[LocalFile, ...]
    uploaded: frozenset[str]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class _Comparison:
    """The repository compared with the publication.

    Attributes:
        snapshot: the state of the repository.
        card: the new README.md, made from the existing one.
        changed: files that the repository lacks or that differ there.
        hint: a hint about the card, or None.
    """

    snapshot: Snapshot
    card: LocalFile
    changed: list[LocalFile]
    hint: str | None


class Sending:
    """Sends one publication to one repository.

    If others commit at the same time, it looks again and takes their changes into account, without sending files twice.
    """

    def __init__(
        self, publication: Publication, destination: Destination, uploader: Uploader, progress: Progress | None = None
    ) -> None:
        self._publication, self._destination, self._uploader = publication, destination, uploader
        self._progress = progress
        self._files = publication.files
        self._created = False

    def run(self) -> Sent:
        """Send what the repository does not hold yet.

        Raises:
            HubError: the Hub refuses or cannot be reached.
            PublicationError: the repository does not fit the destination.
            CardMetadataError, MarkersError, TemplateError: the card cannot be made from the existing one or the template.
        """
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(ChangedMeanwhileError):
                return self._attempt()
        return self._attempt()

    def _attempt(self) -> Sent:
        request = None
        found = self._compare(self._destination.revision)
        if found.changed and self._destination.create_pr:
            request = self._uploader.open_pull_request(self._destination.message)
            found = found if request is None else self._compare(request.revision)
        commit, files = found.snapshot.commit, (*self._files, found.card)
        if found.changed:
            made = self._commit(found.changed, found.snapshot, request)
            commit, request = made.id, made.pull_request or request
            self._check(files, commit)
        return Sent(
            commit=commit,
            created=self._created,
            pull_request=request,
            files=files,
            uploaded=frozenset(file.name for file in found.changed),
            hints=tuple(self._hints(found)),
        )

    def _compare(self, revision: str) -> _Comparison:
        snapshot = self._look(revision)
        self._check_configuration(snapshot)
        existing = self._existing_card(snapshot)
        text = self._publication.card(existing)
        card = LocalFile(README, text.encode("utf-8"))
        changed = [file for file in (*self._files, card) if not file.equals(snapshot.entries.get(file.name))]
        return _Comparison(snapshot, card, changed, lost_results(self._publication.content, existing or "", text))

    def _look(self, revision: str) -> Snapshot:
        """Return the state of the repository, which is created if it does not exist."""
        names = [README, *(file.name for file in self._files)]
        snapshot = self._uploader.look(names, revision)
        if snapshot is None:
            self._create()
            snapshot = self._uploader.look(names, revision)
        if snapshot is None:
            raise HubError(f"{self._where} was created, but the Hub does not list it yet; push again")
        if snapshot.repository != self._destination.repository:
            raise PublicationError(f"{self._where} has been renamed to {SCHEME}{snapshot.repository}; push to that")
        if snapshot.is_empty and not snapshot.gated and (gate := self._gate()):
            self._uploader.gate(gate)
        if self._destination.private and not snapshot.private:
            raise PublicationError(
                f"{self._where} is public, but should be private; make it private in its settings, or do not ask for that"
            )
        return snapshot

    def _create(self) -> None:
        destination = self._destination
        if destination.create_pr or destination.revision != MAIN:
            wanted = "pull request" if destination.create_pr else f"revision {shown(destination.revision)!r}"
            raise PublicationError(
                f"{self._where} does not exist or is private, so it can have no {wanted}; push to {MAIN} first"
            )
        self._uploader.create(destination.private)
        self._created = True

    def _gate(self) -> Gate | None:
        """Return how the originals grant access to those who ask for it; None if nobody has to ask."""
        content = self._publication.content
        gates = [gate for base in content.base_models if (gate := self._uploader.gate_of(base))]
        return "manual" if "manual" in gates else "auto" if gates or content.gate else None

    def _check_configuration(self, snapshot: Snapshot) -> None:
        """Refuse to replace a config.json that others use to load weights from the repository."""
        entry = snapshot.entries.get(CONFIG)
        if entry is None or any(file.name == CONFIG and file.equals(entry) for file in self._files):
            return
        if not is_ours(self._fetch(CONFIG, snapshot).read_bytes()):
            raise PublicationError(
                f"{self._where} has a {CONFIG} that bhk did not write. Replacing it would stop from_pretrained from loading "
                "the weights there; publish in another repository"
            )

    def _existing_card(self, snapshot: Snapshot) -> str | None:
        """Return the repository's README.md with its line ends; None if it has none."""
        if README not in snapshot.entries:
            return None
        path = self._fetch(README, snapshot)
        if path.stat().st_size > MOST_CARD_BYTES:
            raise PublicationError(
                f"{README} of {self._where} has more than {MOST_CARD_BYTES:,} bytes; shorten it first"
            )
        try:
            return path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise PublicationError(f"{README} of {self._where} is not UTF-8 text; save it as UTF-8 first") from None

    def _fetch(self, name: str, snapshot: Snapshot) -> Path:
        return fetch_file(Address(self._destination.repository, revision=snapshot.commit), name)

    def _commit(self, files: list[LocalFile], parent: Snapshot, request: PullRequest | None) -> Commit:
        if self._progress:
            self._progress("Uploading", 0, sum(file.bytes for file in files))  # the library does not report progress
        return self._uploader.commit(
            files,
            parent.commit,
            message=self._destination.message,
            revision=request.revision if request else self._destination.revision,
            create_pr=self._destination.create_pr and request is None,
        )

    def _check(self, files: Sequence[LocalFile], commit: str) -> None:
        """Compare hashes at the new commit."""
        try:
            self._uploader.check(files, commit)
        except NotArrivedError:
            raise
        except HubError as error:
            raise NotCheckedError(
                f"{self._where} has the new commit {commit[:8]}, but its content could not be checked ({error}); push again to "
                "check it"
            ) from None

    def _hints(self, found: _Comparison) -> Iterator[str]:
        if self._destination.private is False and found.snapshot.private:
            yield f"{self._where} is private and stays private; make it public in its settings"
        is_open = not found.snapshot.gated and not found.snapshot.is_empty
        if is_open and found.changed and self._gate():
            yield f"{self._where} is open, but the original asks for access; enable access requests in its settings"
        if found.hint is not None:
            yield found.hint
        others = found.snapshot.names - {file.name for file in self._files}
        if stale := sorted(others & set(COMPANIONS)):
            yield (
                f"{self._where} still holds {listed(stale)}, which transformers reads and this push does not replace; delete "
                "it there if it is out of date"
            )
        if stale := sorted(name for name in others if name.endswith(BHK_SUFFIX)):
            taken = f" (bhk.load uses {MODEL_FILE} unless a file is named)" if MODEL_FILE in stale else ""
            yield (
                f"{self._where} still holds {listed(stale)}, which is not part of this push{taken}; delete it there if it is "
                "out of date"
            )

    @property
    def _where(self) -> str:
        return f"{SCHEME}{self._destination.repository}"
