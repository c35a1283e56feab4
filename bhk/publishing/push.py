"""Publishing compressed models on the Hub: `bhk.push`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from bhk.base.errors import option, shown
from bhk.base.files import FilePath, WriteError, copy_into, made_folder, replace_files
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, size
from bhk.container.errors import FormatError
from bhk.hub.address import FILES, parse_address
from bhk.hub.upload import MAIN, LocalFile, Uploader
from bhk.publishing.content import Card, CardContent, PublicationError, card_content
from bhk.publishing.metadata import completed
from bhk.publishing.repository import README, UnpublishableFileError, repository_files, weight_files
from bhk.publishing.sending import Destination, Publication, Sending
from bhk.publishing.usage import usage
from bhk.tasks.verify import verify

_MESSAGE = "Upload with bhk"


@dataclass(frozen=True)
class PushedFile:
    """A file of the repository.

    Attributes:
        name: its name in the repository.
        bytes: its size.
        state: "uploaded", "unchanged" (the Hub has it already), "written" (to a folder) or "planned" (dry run).
    """

    name: str
    bytes: int
    state: str


@dataclass(frozen=True)
class PushReport(Report):
    """What `bhk.push` returns.

    Attributes:
        repository: "user/repo".
        url: the page of the repository or of the branch; the folder with `out`; None for a dry run.
        commit: the commit that holds the files now; None unless they are on the Hub.
        created: whether the repository is new.
        pull_request: address of the pull request that holds the files; None without one.
        files: every file of the publication, in the order of the commit.
        sent_bytes: bytes of the .bhk files in the commit. What the Hub's storage already had was not sent again.
        card: text of README.md.
        usage: lines of Python that load the first file, as on the card; empty unless it is on the Hub.
        warnings: what the card lacks, and which wishes could not be met.
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
    warnings: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was uploaded."""
        return any(file.state == "uploaded" for file in self.files)

    @property
    def hints(self) -> tuple[str, ...]:
        """The warnings, and how to load the first file."""
        return (*(f"warning: {warning}" for warning in self.warnings), *self.usage)

    def lines(self) -> Iterator[str | Table]:
        """Yield the report as text."""
        rows = [(file.name, size(file.bytes), file.state) for file in self.files]
        yield Table((Column("file", "left", least=36), Column("size"), Column("", "left")), rows)
        where = self.pull_request or self.url
        if where is None:
            yield ""
            yield from self.card.removesuffix("\n").split("\n")
        elif self.commit is None:
            yield f"{where}: {counted(len(self.files), 'file')}; nothing was sent to the Hub"
        elif self.changed:
            new = " of a new repository" if self.created else ""
            yield f"{where}: commit {self.commit[:8]}{new}, {size(self.sent_bytes)} of weights"
        else:
            yield f"{where}: nothing to do, commit {self.commit[:8]} already holds all files"


def push(
    files: FilePath | Sequence[FilePath],
    repository: str,
    *,
    card: Card = Card(),
    include: FilePath | Sequence[FilePath] = (),
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    message: str | None = None,
    out: FilePath | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PushReport:
    """Publish .bhk files in a repository on the Hub, with configuration files and a model card.

    Every file is verified first. The repository is created if it does not exist. Only files that it does not hold yet are
    sent, in one commit, and their hashes are compared afterwards; pushing twice does nothing. Other files of the repository
    and the hand-written parts of its card stay as they are.

    >>> import bhk
    >>> report = bhk.push("demo_sam.bhk", "user/demo-sam", card=bhk.Card(license="apache-2.0"), dry_run=True)
    >>> [file.name for file in report.files]
    ['model.bhk', 'config.json', 'README.md']

    Args:
        files: one file, which becomes model.bhk, or several, which keep their names.
        repository: "user/repo".
        card: what the model card says beyond what the files say themselves.
        include: more files, such as LICENSE; they keep their base names.
        private: whether a new repository is private; None: the account's default. An existing repository stays as it is,
            but nothing is sent to a public one if `private` is true.
        create_pr: open a pull request, or add to the open one with the same title.
        revision: an existing branch, or refs/pr/N; None: main. A branch that does not exist is an error, not created.
        message: title of the commit and of the pull request.
        out: write the repository to this new or empty folder instead, without a network.
        dry_run: only report what would be published, without a network.
        progress: called with (stage, bytes done, all bytes).

    Raises:
        ReadError, FormatError: a .bhk file cannot be read, or its header breaks a rule of the format.
        UnpublishableFileError: a .bhk file is damaged, or a file cannot be published.
        StoredConfigError, PublicationError, EvaluationDocumentError, UnknownLicenseError: the files, the options and the
            repository do not fit together.
        TemplateError, CardMetadataError, MarkersError: the card cannot be made from the template or the existing card.
        NoTokenError: nobody is logged in to the Hub.
        HubError: the Hub refuses or cannot be reached. The repository is unchanged, or new and empty, except after
            NotCheckedError and NotArrivedError; pushing again continues with what has arrived.
        WriteError: the folder is not empty or cannot be written.
    """
    destination = _destination(repository, private, create_pr, revision, message)
    online = not dry_run and out is None
    uploader = Uploader(destination.repository) if online else None  # fails early if nobody is logged in
    weights = weight_files(_listed(files))
    others = repository_files(
        weights, _listed(include)
    )  # looked at before they are checked: none may change from here on
    for path in weights.values():
        _verify(path, progress)
    content = card_content(weights, destination.repository, card)
    known = {file.name: file.sha256 for file in content.files}
    for file in others:
        if file.name in known:
            file.sha256 = known[file.name]
    publication = Publication(content, None if card.template is None else _text(Path(card.template)), others)
    text = publication.card()  # fails before a repository is created
    if uploader is not None:
        return _upload(publication, destination, uploader, progress)
    every = (*others, LocalFile(README, text.encode("utf-8")))
    if not dry_run and out is not None:
        _write(every, Path(out))
    return _offline(content, text, every, None if dry_run else out)


def _destination(
    repository: str, private: bool | None, create_pr: bool, revision: str | None, message: str | None
) -> Destination:
    """Check the arguments that do not depend on the files."""
    if repository.endswith(FILES) and ("/" not in repository or Path(repository).is_file()):
        raise PublicationError(f"{shown(repository)} is a file; expected a repository, user/repo")
    address = parse_address(repository)
    if address.path is not None or address.revision is not None:
        raise PublicationError(
            f"{shown(repository)} names more than a repository; expected user/repo, "
            f"and a branch as {option('revision')}"
        )
    _check_name(address.repository)
    if create_pr and revision not in (None, MAIN):
        raise PublicationError(
            f"a pull request is made against {MAIN}, but revision {shown(revision)!r} was given as well; "
            f"leave out {option('create_pr')} or {option('revision')}"
        )
    title = " ".join((message or "").split())
    if message is not None and not title:
        raise PublicationError("the message is empty; leave it out, or say what the commit does")
    return Destination(
        address.repository, private, create_pr, MAIN if revision is None else revision, title or _MESSAGE
    )


def _check_name(repository: str) -> None:
    """Apply the Hub's rules for names, which are stricter than those for addresses."""
    from huggingface_hub.errors import HFValidationError  # slow to import
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise PublicationError(f"the Hub does not accept this name: {shown(error, 300)}") from None


def _listed(paths: FilePath | Sequence[FilePath]) -> list[FilePath]:
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # keeps the line ends
    except OSError as error:
        raise PublicationError(f"cannot read template {shown(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PublicationError(f"template {shown(path)} is not UTF-8 text; save it as UTF-8") from error


def _verify(path: Path, progress: Progress | None) -> None:
    def advance(stage: str, done: int, total: int) -> None:
        if progress:
            progress(f"{stage} {path.name}", done, total)

    try:
        verify(path, progress=advance)
    except FormatError as error:
        raise UnpublishableFileError(
            f"{shown(os.fspath(path))} is not an intact .bhk file ({error}); convert the checkpoint (again)"
        ) from error


def _upload(
    publication: Publication, destination: Destination, uploader: Uploader, progress: Progress | None
) -> PushReport:
    sent = Sending(publication, destination, uploader, progress).run()
    weights = {file.name for file in publication.content.files}
    card = sent.files[-1].content
    assert isinstance(card, bytes)
    branch, request = destination.revision, sent.pull_request
    return PushReport(
        repository=destination.repository,
        url=uploader.url if branch == MAIN else f"{uploader.url}/tree/{quote(branch, safe='')}",
        commit=sent.commit,
        created=sent.created,
        pull_request=request.url if request else None,
        files=tuple(
            PushedFile(file.name, file.bytes, "uploaded" if file.name in sent.uploaded else "unchanged")
            for file in sent.files
        ),
        sent_bytes=sum(file.bytes for file in sent.files if file.name in weights & sent.uploaded),
        card=card.decode("utf-8"),
        usage=usage(publication.content, request.revision if request else branch),
        warnings=(*completed(publication.content, card.decode("utf-8")).hints, *sent.hints),
    )


def _offline(content: CardContent, card: str, files: Sequence[LocalFile], out: FilePath | None) -> PushReport:
    """Return the report of a publication to a folder; of a dry run if `out` is None."""
    state = "planned" if out is None else "written"
    return PushReport(
        repository=content.repository,
        url=None if out is None else os.fsdecode(out),
        commit=None,
        created=False,
        pull_request=None,
        files=tuple(PushedFile(file.name, file.bytes, state) for file in files),
        sent_bytes=0,
        card=card,
        usage=(),
        warnings=content.hints,
    )


def _write(files: Sequence[LocalFile], folder: Path) -> None:
    """Write files to a new or empty folder; after an error, nothing of it is left."""
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise WriteError(f"folder {folder} is not empty; give a new or an empty one")
    except OSError as error:
        raise WriteError(f"cannot write folder {folder}: {error.strerror or error}") from error
    with made_folder(folder), replace_files(force=False) as new:
        for file in files:
            _copy(file.content, new.open(folder / file.name))


def _copy(content: Path | bytes, target: BinaryIO) -> None:
    if isinstance(content, bytes):
        target.write(content)
        return
    copy_into(content, target)
