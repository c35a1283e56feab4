"""Compressed models onto the Hub: `bhk.push`."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from bhk.base.errors import shown
from bhk.base.files import WriteError, replace_file
from bhk.container.errors import FormatError
from bhk.hub.address import FILES, parse_address
from bhk.hub.errors import redact
from bhk.hub.upload import MAIN, LocalFile, Uploader
from bhk.publishing.facts import CardFacts, PublicationError, card_facts
from bhk.publishing.metadata import completed
from bhk.publishing.repository import README, UnpublishableFileError, repository_files, weight_files
from bhk.publishing.sending import Order, Progress, Publication, Sending
from bhk.publishing.usage import usage
from bhk.tasks.verify import verify

_MESSAGE = "Upload with bhk"

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class PushedFile:
    """A file of the repository.

    Attributes:
        name: in the repository.
        bytes: its size.
        state: "uploaded", "unchanged" (the Hub has it already), "written" (into a folder) or "planned" (dry run).
    """

    name: str
    bytes: int
    state: str


@dataclass(frozen=True)
class PushReport:
    """What `bhk.push` did.

    Attributes:
        repository: "user/repo".
        url: its page, or that of the branch; the folder; None of a dry run.
        commit: that which holds the files now; None without the Hub.
        created: whether the repository is new.
        pull_request: address of the pull request that holds the files; None without.
        files: every file that was to be there, in the order of the commit.
        sent_bytes: bytes of the .bhk files in the commit; what storage had of them already was not sent again.
        card: text of README.md.
        usage: lines of Python that load the first file, as on the card; none unless it is on the Hub.
        hints: what the card lacks, and what is otherwise than was asked for.
    """

    repository: str
    url: str | None
    commit: str | None
    created: bool
    pull_request: str | None
    files: tuple[PushedFile, ...]
    sent_bytes: int
    card: str
    usage: tuple[str, ...]
    hints: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was uploaded."""
        return any(file.state == "uploaded" for file in self.files)


def push(
    files: FilePath | Sequence[FilePath],
    repository: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    message: str | None = None,
    evaluation: FilePath | Sequence[FilePath] = (),
    base_model: str | None = None,
    licence: str | None = None,
    include: FilePath | Sequence[FilePath] = (),
    template: FilePath | None = None,
    folder: FilePath | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PushReport:
    """Publish .bhk files in a repository on the Hub, with configuration files and a card.

    Every file is checked whole first. The repository is created if it is missing; what it holds already is not sent, so that
    pushing twice does nothing; the rest becomes one commit, and hashes are compared at its end. Other files that the
    repository holds are left alone, and so are the hand-written parts of its card.

    Args:
        files: one, which becomes model.bhk, or several, which keep their names.
        repository: "user/repo".
        private: whether a new repository is; None: as the account has it by default. An existing one stays as it is;
            if that is public and was to be private, nothing is sent.
        create_pr: open a pull request, or go on with the open one of the same title.
        revision: an existing branch, or refs/pr/N; main by default. One that does not exist is an error: a misspelled one
            would be a new branch.
        message: title of the commit and of the pull request.
        evaluation: results about these files, as `bhk eval --out` writes them.
        base_model: repository of the original on the Hub, if the files do not tell.
        licence: of the weights, as the Hub calls it, if the files do not tell.
        include: more files, such as LICENSE; they keep their base names.
        template: text of the card in place of the built-in one.
        folder: write the repository into this new or empty folder instead; no network.
        dry_run: only tell what would be there; no network.
        progress: called with (what is being done, bytes done, all bytes).

    Raises:
        ReadError, FormatError: a .bhk file cannot be read, or its header breaks a rule of the format.
        UnpublishableFileError: a .bhk file is damaged, or a file cannot become one of a repository.
        StoredConfigError, PublicationError, EvaluationDocumentError, UnknownLicenceError: what is to be
            published does not go together.
        TemplateError, CardMetadataError, MarkersError: no card can be made, or not from the one that the repository has.
        NoTokenError: nobody is logged in to the Hub.
        HubError: the Hub refuses or cannot be reached. The repository is as it was, or new and empty, but for
            NotCheckedError and NotArrivedError; pushing again goes on from what has arrived.
        WriteError: the folder is not empty, or cannot be written.
    """
    order = _order(repository, private, create_pr, revision, message)
    online = not dry_run and folder is None
    uploader = Uploader(order.repository) if online else None  # before hours of work: is anybody logged in?
    weights = weight_files(_listed(files))
    others = repository_files(weights, _listed(include))  # before they are checked: none may change from here on
    for path in weights.values():
        _verify(path, progress)
    facts = card_facts(
        weights, order.repository, evaluation=_listed(evaluation), base_model=base_model, licence=licence
    )
    known = {file.name: file.sha256 for file in facts.files}
    for file in others:
        if file.name in known:
            file.sha256 = known[file.name]
    publication = Publication(facts, None if template is None else _text(Path(template)), others)
    card = publication.card()  # before a repository is created for it: can it be made?
    if uploader is not None:
        return _upload(publication, order, uploader, progress)
    every = (*others, LocalFile(README, card.encode("utf-8")))
    if not dry_run and folder is not None:
        _write(every, Path(folder))
    return _offline(facts, card, every, None if dry_run else folder)


def _order(repository: str, private: bool | None, create_pr: bool, revision: str | None, message: str | None) -> Order:
    """Check what does not depend on the files."""
    if repository.endswith(FILES) and ("/" not in repository or Path(repository).is_file()):
        raise PublicationError(f"{redact(shown(repository))} is a file; expected user/repo as the last argument")
    address = parse_address(repository)
    if address.path is not None or address.revision is not None:
        raise PublicationError(
            f"{redact(shown(repository))} names more than a repository; expected user/repo, and a branch as revision"
        )
    _check_name(address.repository)
    if create_pr and revision not in (None, MAIN):
        raise PublicationError(
            f"a pull request is made against {MAIN}, but revision {shown(revision)!r} was given, too; leave out one of them"
        )
    title = " ".join((message or "").split())
    if message is not None and not title:
        raise PublicationError("the message is empty; leave it out, or say what the commit does")
    return Order(address.repository, private, create_pr, MAIN if revision is None else revision, title or _MESSAGE)


def _check_name(repository: str) -> None:
    """Apply the Hub's rules for names, which are stricter than those of addresses."""
    from huggingface_hub.errors import HFValidationError  # slow to import
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise PublicationError(redact(f"the Hub takes no such name: {shown(error, 300)}")) from None


def _listed(paths: FilePath | Sequence[FilePath]) -> list[FilePath]:
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # line ends as they are
    except OSError as error:
        raise PublicationError(f"cannot read template {shown(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PublicationError(f"template {shown(path)} is no text in UTF-8; save it as such") from error


def _verify(path: Path, progress: Progress | None) -> None:
    try:
        verify(path, progress=None if progress is None else functools.partial(progress, f"Checking {path.name}"))
    except FormatError as error:
        raise UnpublishableFileError(
            f"{shown(os.fspath(path))} is no sound .bhk file ({error}); convert the checkpoint, again if it was converted"
        ) from error


def _upload(publication: Publication, order: Order, uploader: Uploader, progress: Progress | None) -> PushReport:
    sent = Sending(publication, order, uploader, progress).run()
    weights = {file.name for file in publication.facts.files}
    card = sent.files[-1].content
    assert isinstance(card, bytes)
    return PushReport(
        repository=order.repository,
        url=uploader.url if order.revision == MAIN else f"{uploader.url}/tree/{quote(order.revision, safe='')}",
        commit=sent.commit,
        created=sent.created,
        pull_request=sent.pull_request.url if sent.pull_request else None,
        files=tuple(
            PushedFile(file.name, file.bytes, "uploaded" if file.name in sent.uploaded else "unchanged")
            for file in sent.files
        ),
        sent_bytes=sum(file.bytes for file in sent.files if file.name in weights & sent.uploaded),
        card=card.decode("utf-8"),
        usage=usage(publication.facts, sent.pull_request.revision if sent.pull_request else order.revision),
        hints=(*completed(publication.facts, card.decode("utf-8")).hints, *sent.hints),
    )


def _offline(facts: CardFacts, card: str, files: Sequence[LocalFile], folder: FilePath | None) -> PushReport:
    """Report what was written into a folder; of a dry run (None), what would be there."""
    state = "planned" if folder is None else "written"
    return PushReport(
        repository=facts.repository,
        url=None if folder is None else os.fsdecode(folder),
        commit=None,
        created=False,
        pull_request=None,
        files=tuple(PushedFile(file.name, file.bytes, state) for file in files),
        sent_bytes=0,
        card=card,
        usage=(),
        hints=facts.hints,
    )


def _write(files: Sequence[LocalFile], folder: Path) -> None:
    """Write files into a new or empty folder; on any error, what was written is gone again."""
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise WriteError(f"folder {folder} is not empty; give a new or an empty one")
        new = not folder.is_dir()
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write folder {folder}: {error.strerror or error}") from error
    with contextlib.ExitStack() as undo:
        if new:
            undo.callback(folder.rmdir)
        for file in files:
            path = folder / file.name
            undo.callback(path.unlink, missing_ok=True)
            with replace_file(path, force=False) as target:
                _copy(file.content, target)
        undo.pop_all()


def _copy(content: Path | bytes, target: BinaryIO) -> None:
    if isinstance(content, bytes):
        target.write(content)
        return
    with content.open("rb") as source:
        shutil.copyfileobj(source, target)
