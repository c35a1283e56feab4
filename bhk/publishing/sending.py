"""Bringing a repository on the Hub to what is to be published: look, build, commit, check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bhk.base.errors import listed, shown
from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.checkpoint.companions import COMPANIONS, CONFIG
from bhk.hub.address import SCHEME, Address
from bhk.hub.download import fetch_file
from bhk.hub.errors import HubError
from bhk.hub.upload import (
    MAIN,
    ChangedMeanwhileError,
    Commit,
    LocalFile,
    NotArrivedError,
    PullRequest,
    Snapshot,
    Uploader,
)
from bhk.publishing.card import make_card
from bhk.publishing.configuration import is_ours
from bhk.publishing.facts import CardFacts, PublicationError
from bhk.publishing.kept import lost_results
from bhk.publishing.repository import README

ATTEMPTS = 4  # to commit while others do
Progress = Callable[[str, int, int], None]


class NotCheckedError(HubError):
    """A commit was made, and the Hub did not tell then what it holds."""


@dataclass(frozen=True)
class Publication:
    """What is to be published.

    Attributes:
        facts, template: what the card is made from.
        files: every file but the card.
    """

    facts: CardFacts
    template: str | None
    files: tuple[LocalFile, ...]

    def card(self, existing: str | None = None) -> str:
        """Return the text of README.md, with the hand-written parts of the existing one."""
        return make_card(self.facts, existing=existing, template=self.template)


@dataclass(frozen=True)
class Order:
    """Where to, and how; see `bhk.push`."""

    repository: str
    private: bool | None
    create_pr: bool
    revision: str
    message: str


@dataclass(frozen=True)
class Sent:
    """What the repository holds in the end.

    Attributes:
        commit: which holds the files.
        created: whether the repository is new.
        pull_request: which holds them; None without.
        files: all that were to be there, the card last.
        uploaded: names of those that were not there before.
        hints: what is otherwise than was asked for.
    """

    commit: str
    created: bool
    pull_request: PullRequest | None
    files: tuple[LocalFile, ...]
    uploaded: frozenset[str]
    hints: tuple[str, ...]


@dataclass(frozen=True)
class _Comparison:
    """What there is, against what is to be there.

    Attributes:
        snapshot: of the repository.
        card: to be README.md, made from the one that there is.
        changed: which files the repository lacks or has in another form.
        hint: about the card; None without.
    """

    snapshot: Snapshot
    card: LocalFile
    changed: list[LocalFile]
    hint: str | None


class Sending:
    """One publication on its way into one repository.

    What others commit meanwhile is looked at and taken into account; what has arrived is not sent again for that.
    """

    def __init__(
        self, publication: Publication, order: Order, uploader: Uploader, progress: Progress | None = None
    ) -> None:
        self._publication, self._order, self._uploader, self._progress = publication, order, uploader, progress
        self._files = publication.files
        self._created = False

    def run(self) -> Sent:
        """Send what is not there yet.

        Raises:
            HubError: the Hub refuses or cannot be reached.
            PublicationError: the repository does not go with the order.
            CardMetadataError, MarkersError, TemplateError: no card can be made, or not from the existing one.
        """
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(ChangedMeanwhileError):
                return self._attempt()
        return self._attempt()

    def _attempt(self) -> Sent:
        request = None
        found = self._compare(self._order.revision)
        if found.changed and self._order.create_pr:
            request = self._uploader.open_pull_request(self._order.message)
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
        return _Comparison(snapshot, card, changed, lost_results(self._publication.facts, existing or "", text))

    def _look(self, revision: str) -> Snapshot:
        """Return what there is, in a new repository if need be."""
        names = [README, *(file.name for file in self._files)]
        snapshot = self._uploader.look(names, revision)
        if snapshot is None:
            self._create()
            snapshot = self._uploader.look(names, revision)
        if snapshot is None:
            raise HubError(f"{self._where} was created, but the Hub does not find it yet; push again")
        if snapshot.repository != self._order.repository:
            raise PublicationError(f"{self._where} is called {SCHEME}{snapshot.repository} now; push to that")
        if self._order.private and not snapshot.private:
            raise PublicationError(
                f"{self._where} is public, and was to be private; make it private in its settings, or push without --private"
            )
        return snapshot

    def _create(self) -> None:
        order = self._order
        if order.create_pr or order.revision != MAIN:
            wanted = "pull request" if order.create_pr else f"revision {shown(order.revision)!r}"
            raise PublicationError(
                f"{self._where} does not exist or is private, so there can be no {wanted}; push to {MAIN} first"
            )
        self._uploader.create(order.private)
        self._created = True

    def _check_configuration(self, snapshot: Snapshot) -> None:
        """Check that no config.json is replaced by which others load what is there."""
        entry = snapshot.entries.get(CONFIG)
        if entry is None or any(file.name == CONFIG and file.equals(entry) for file in self._files):
            return
        if not is_ours(self._fetch(CONFIG, snapshot).read_bytes()):
            raise PublicationError(
                f"{self._where} has a {CONFIG} that bhk did not write, by which from_pretrained finds the weights there; "
                "replacing it would break that for everybody; publish in a repository of its own"
            )

    def _existing_card(self, snapshot: Snapshot) -> str | None:
        """Return the README.md in the repository, with the line ends that it has; None without."""
        if README not in snapshot.entries:
            return None
        try:
            return self._fetch(README, snapshot).read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise PublicationError(f"{README} of {self._where} is no text in UTF-8; save it as such first") from None

    def _fetch(self, name: str, snapshot: Snapshot) -> Path:
        return fetch_file(Address(self._order.repository, revision=snapshot.commit), name)

    def _commit(self, files: list[LocalFile], parent: Snapshot, request: PullRequest | None) -> Commit:
        if self._progress:
            self._progress("Uploading", 0, sum(file.bytes for file in files))  # how far, the library does not tell
        return self._uploader.commit(
            files,
            parent.commit,
            message=self._order.message,
            revision=request.revision if request else self._order.revision,
            create_pr=self._order.create_pr and request is None,
        )

    def _check(self, files: Sequence[LocalFile], commit: str) -> None:
        """Compare hashes at the new commit."""
        try:
            self._uploader.check(files, commit)
        except NotArrivedError:
            raise
        except HubError as error:
            raise NotCheckedError(
                f"{self._where} has the new commit {commit[:8]}, but what it holds could not be checked ({error}); push again "
                "to check it"
            ) from None

    def _hints(self, found: _Comparison) -> Iterator[str]:
        if self._order.private is False and found.snapshot.private:
            yield f"{self._where} is private, and stays so; make it public in its settings"
        if found.hint is not None:
            yield found.hint
        others = found.snapshot.names - {file.name for file in self._files}
        if stale := sorted(others & set(COMPANIONS)):
            yield (
                f"{self._where} still holds {listed(stale)}, which transformers reads and this push does not bring; delete "
                "there what is stale"
            )
        if stale := sorted(name for name in others if name.endswith(BHK_SUFFIX)):
            taken = f"; {MODEL_FILE} is what bhk.load takes unless a file is named" if MODEL_FILE in stale else ""
            yield f"{self._where} still holds {listed(stale)}, not of this push{taken}; delete there what is stale"

    @property
    def _where(self) -> str:
        return f"{SCHEME}{self._order.repository}"
