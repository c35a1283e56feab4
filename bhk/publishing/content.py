"""What a model card says: gathered from .bhk files, from results of evaluations, and from whoever publishes them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from bhk.base.errors import BhkError, listed, option, shown
from bhk.base.files import FilePath
from bhk.base.hashes import sha256
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import CONFIG, companions_of
from bhk.checkpoint.terms import LICENSE, Terms, terms_of
from bhk.evaluation.documents import EvaluationDocumentError, read_reports
from bhk.evaluation.results import AccuracyReport, FidelityReport
from bhk.evaluation.several import EvaluationReport
from bhk.hub.address import Address, parse_address
from bhk.hub.errors import HubError
from bhk.publishing.licenses import OTHER, License, UnknownLicenseError, find_license, license_in
from bhk.sam.variants import (
    FAMILIES,
    VARIANTS,
    PromptKind,
    Variant,
    is_buildable,
    prompts_of,
    published_as,
    published_with,
)
from bhk.tasks.inspect import InspectionReport, inspect

Evaluation: TypeAlias = FidelityReport | AccuracyReport
Evaluations: TypeAlias = Evaluation | EvaluationReport[FidelityReport] | EvaluationReport[AccuracyReport]


class PublicationError(BhkError):
    """The files, the options and the repository of a publication do not fit together."""


@dataclass(frozen=True)
class Card:
    """What the model card of `bhk.push` says beyond what the .bhk files say themselves.

    >>> import bhk
    >>> card = bhk.Card(base_model="facebook/sam-vit-base", license="apache-2.0")
    >>> report = bhk.push("demo_sam.bhk", "user/demo-sam", card=card, dry_run=True)
    >>> print(report.card.splitlines()[1])
    license: apache-2.0

    Attributes:
        base_model: the repository of the original on the Hub, if the files do not name it.
        license: the license of the weights as the Hub calls it, such as "apache-2.0", if the files do not state it.
        evaluation: results of `bhk.fidelity` and `bhk.accuracy` about these files: reports, or JSON files of them.
        template: a Markdown file with placeholders, used in place of the built-in text.
    """

    base_model: str | None = None
    license: str | None = None
    evaluation: FilePath | Evaluations | Sequence[FilePath | Evaluations] = ()
    template: FilePath | None = None

    @property
    def evaluations(self) -> list[FilePath | Evaluations]:
        """The evaluations as a list."""
        one = isinstance(self.evaluation, str | os.PathLike | FidelityReport | AccuracyReport | EvaluationReport)
        return [self.evaluation] if one else list(self.evaluation)  # type: ignore[arg-type, list-item]


@dataclass(frozen=True)
class PublishedFile:
    """A .bhk file of a repository.

    Attributes:
        name: its name in the repository.
        inspection: its layers, one row per role.
        sha256: SHA-256 of its bytes.
        evaluations: results about exactly this file.
        earlier_results: the text of such results on the repository's card; None if it shows none.
    """

    name: str
    inspection: InspectionReport
    sha256: str
    evaluations: tuple[Evaluation, ...] = ()
    earlier_results: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether there are results of evaluations."""
        return bool(self.evaluations) or self.earlier_results is not None

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of its header."""
        return self.inspection.metadata

    @cached_property
    def terms(self) -> Terms:
        """The terms of the original that it carries."""
        return terms_of(self.metadata)

    @property
    def source(self) -> str | None:
        """The file name of the checkpoint it was converted from, or its address on the Hub."""
        return self.metadata.get("source.name")

    @property
    def source_repository(self) -> str | None:
        """The repository on the Hub it was converted from; None for other sources."""
        address = _address(self.source) if self.source else None
        return None if address is None else address.repository

    @property
    def family(self) -> str | None:
        """The family of its model if `bhk.load` can build it, else None."""
        model = self.inspection.model
        return model.family if model and is_buildable(model) else None

    @property
    def segments(self) -> bool:
        """Whether it holds a whole model that turns points or boxes into masks in `bhk.segment`."""
        return not {"points", "boxes"}.isdisjoint(self.prompts)

    @property
    def prompts(self) -> tuple[PromptKind, ...]:
        """What `bhk.segment` asks its model with; none if it cannot."""
        model = self.inspection.model
        return prompts_of(model) if model and is_buildable(model) else ()

    @cached_property
    def architecture(self) -> str | None:
        """The first class of transformers that its config.json names; None if it names none."""
        text = companions_of(self.metadata).get(CONFIG)
        try:
            names = parse_object((text or "{}").encode("utf-8")).get("architectures")
        except (StrictJsonError, UnicodeEncodeError):
            return None
        name = names[0] if isinstance(names, list) and names else None
        return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,99}", name, re.ASCII) else None

    @property
    def transformers_class(self) -> str | None:
        """The class of transformers that loads it; None if it is not a model of transformers."""
        if CONFIG not in companions_of(self.metadata):
            return None
        classes = FAMILIES[self.family].classes if self.family else {}
        if classes:
            own = self.architecture
            return own if own in classes.values() else next(iter(classes.values()))
        has_head = self.architecture is not None and "For" in self.architecture
        return self.architecture if has_head else "AutoModel"

    @property
    def same_sizes(self) -> Variant | None:
        """A published model with the same sizes; None if there is none."""
        model = self.inspection.model
        found = VARIANTS.get(model.variant) if model and model.variant else None
        return found if found and found.architecture is not None else None

    @property
    def variant(self) -> Variant | None:
        """The published model it was converted from, if its source is the publisher's repository or file, else None.

        Sizes and file name are not enough: a fine-tuned model may have those of the published one, and another license.
        """
        repository = self.source_repository
        if repository is not None:
            return next((variant for variant in VARIANTS.values() if variant.hub == repository), None)
        return published_with(self.metadata.get("source.sha256", ""))

    @property
    def named_like(self) -> Variant | None:
        """The published model whose file name its source has, if nothing shows that it is that model."""
        model = self.inspection.model
        if self.variant is not None or model is None or self.source is None:
            return None
        return published_as(model.family, model.variant, self.source)


@dataclass(frozen=True)
class CardContent:
    """Everything a card says.

    Attributes:
        repository: "user/repo".
        files: the .bhk files in it.
        base_models: the repositories of the originals on the Hub; empty if one of the files does not name its own.
        license: the license of the weights; None if it is not known.
    """

    repository: str
    files: tuple[PublishedFile, ...]
    base_models: tuple[str, ...]
    license: License | None

    @property
    def gate(self) -> dict[str, Any]:
        """What the originals' cards say about the form for those who ask for access; empty if they say nothing."""
        return {key: value for file in reversed(self.files) for key, value in file.terms.gate.items()}

    @property
    def hints(self) -> tuple[str, ...]:
        """What the publisher could add."""
        hints = []
        if self.license is None:
            alike = dict.fromkeys(
                f"{file.inspection.title}, published under {same.license}"
                for file in self.files
                if (same := file.same_sizes)
            )
            sizes = f" (it has the sizes of {'; '.join(alike)})" if alike else ""
            hints.append(f"the license is not known{sizes}; give the license of the weights")
        if not self.base_models and any(
            not same_repository(file.source_repository, self.repository) for file in self.files
        ):
            hints.append("the base model is not known; give the repository of the original on the Hub")
        own = (hint for file in self.files for hint in (*_hints_about_name(file), *_hints_about_results(file)))
        return (*hints, *dict.fromkeys(own))


def card_content(files: Mapping[str, FilePath], repository: str, card: Card = Card()) -> CardContent:
    """Gather what a card says.

    Args:
        files: the .bhk files on this machine, by their names in the repository.
        repository: "user/repo".
        card: what the publisher adds. A license that a file states itself takes precedence.

    Raises:
        ReadError, FormatError: a file cannot be read or breaks a rule of the format.
        EvaluationDocumentError: an evaluation cannot be read, or is about another file.
        PublicationError: there are no files, the licenses contradict each other, or the base model is not another repository.
        UnknownLicenseError: the Hub does not know the license.
    """
    if not files:
        raise PublicationError("there are no .bhk files to publish; give at least one")
    evaluations = [(given, _evaluations(given)) for given in card.evaluations]
    every = [evaluation for _, some in evaluations for evaluation in some]
    found = tuple(_published_file(name, Path(path), every) for name, path in files.items())
    hashes = {file.sha256 for file in found}
    for given, some in evaluations:
        if some and hashes.isdisjoint(evaluation.model.sha256 for evaluation in some):
            evaluation = some[0]
            raise EvaluationDocumentError(
                f"{_called(given)} is about another file ({shown(evaluation.model.name)}, SHA-256 "
                f"{shown(evaluation.model.sha256)[:12]}…) than {listed(files.values(), 3)}; evaluate what you publish"
            )
    known = _given_license(card.license, found) if card.license else _common_license(found)
    return CardContent(repository, found, _base_models(found, repository, card.base_model), known)


def repository_of(text: str) -> str | None:
    """Return the repository on the Hub if `text` names one and nothing else, or None."""
    address = _address(text)
    return None if address is None or address.path or address.revision else address.repository


def same_repository(one: str | None, other: str) -> bool:
    """Return whether two names mean the same repository."""
    return one is not None and one.casefold() == other.casefold()


def _evaluations(given: FilePath | Evaluations) -> tuple[Evaluation, ...]:
    if isinstance(given, EvaluationReport):
        return given.reports
    return (given,) if isinstance(given, FidelityReport | AccuracyReport) else read_reports(given)


def _called(given: FilePath | Evaluations) -> str:
    return shown(os.fsdecode(given)) if isinstance(given, str | os.PathLike) else "the evaluation"


def _hints_about_name(file: PublishedFile) -> Iterator[str]:
    """Yield a hint if the source has the name of a published file, but may hold other weights."""
    alike = file.named_like
    if alike is None:
        return
    if alike.sha256 is None:
        yield f"{shown(file.source)} is the name of {alike.title}'s file; whether it is that file, bhk cannot check"
    else:
        yield f"{shown(file.source)} is the name of {alike.title}'s file, but its SHA-256 is another: these are other weights"


def _hints_about_results(file: PublishedFile) -> Iterator[str]:
    """Yield a hint for each evaluation against something other than what the file was converted from."""
    source = file.metadata.get("source.sha256")
    for evaluation in file.evaluations:
        original = evaluation.original
        if source is not None and original is not None and original.sha256 != source:
            yield (
                f"the evaluation of {shown(file.name)} compares it with other weights ({shown(original.name)}, SHA-256 "
                f"{shown(original.sha256)[:12]}…) than it was converted from ({shown(file.source)}, "
                f"{shown(source)[:12]}…); evaluate against those"
            )


def _address(text: str) -> Address | None:
    """Return the address on the Hub in `text`; None if it is not one."""
    try:
        return parse_address(text)
    except HubError:
        return None


def _published_file(name: str, path: Path, evaluations: Sequence[Evaluation]) -> PublishedFile:
    found, digest = inspect(path, by="role"), sha256(path)
    return PublishedFile(name, found, digest, tuple(entry for entry in evaluations if entry.model.sha256 == digest))


def _base_models(files: Sequence[PublishedFile], target: str, given: str | None) -> tuple[str, ...]:
    """Return the originals' repositories without the target itself; nothing if one file does not name its own."""
    if given is None:
        found = [file.source_repository or (file.variant.hub if file.variant else None) for file in files]
        if None in found:
            return ()
        return tuple(dict.fromkeys(base for base in found if base is not None and not same_repository(base, target)))
    repository = repository_of(given)
    if repository is None:
        raise PublicationError(f"base model {shown(given)!r} is not a repository on the Hub; expected user/repo")
    if same_repository(repository, target):
        raise PublicationError(f"{repository} cannot be its own base model; give the repository of the original")
    return (repository,)


def _common_license(files: Sequence[PublishedFile]) -> License | None:
    """Return the license of all files; None if it is not known for one of them."""
    found = {file.name: _license_of(file) for file in files}
    if len(set(found.values())) > 1 and None not in found.values():
        named = ", ".join(f"{shown(name)}: {license.title}" for name, license in found.items() if license)
        raise PublicationError(
            f"the files have different licenses ({named}); give the one that applies as {option('license')}, or publish apart"
        )
    return None if None in found.values() else next(iter(found.values()))


def _given_license(text: str, files: Sequence[PublishedFile]) -> License:
    """Return the license called `text`, unless a file itself states another one."""
    given = find_license(text)
    for file in files:
        with contextlib.suppress(UnknownLicenseError):
            stated = _stated_license(file) or license_in(file.terms.card)
            if stated is not None and _differ(stated, given):
                raise PublicationError(
                    f"{shown(file.name)} states the license {stated.title}, but {given.title} was given; give none, or "
                    "convert the checkpoint again with the right license in its metadata"
                )
    return given


def _differ(one: License, other: License) -> bool:
    return one.id != other.id or (None not in (one.name, other.name) and one.name != other.name)


def _license_of(file: PublishedFile) -> License | None:
    stated = _stated_license(file) or license_in(file.terms.card)
    if stated is not None and (stated.id != OTHER or stated.name):
        return stated
    if file.variant:
        return find_license(file.variant.license)
    if stated is None or stated.link or file.terms.license is None:
        return stated
    return replace(stated, link=LICENSE)


def _stated_license(file: PublishedFile) -> License | None:
    """Return the license that a file's metadata state."""
    stated = file.metadata.get("license")
    try:
        return None if stated is None else find_license(stated)
    except UnknownLicenseError as error:
        raise UnknownLicenseError(
            f"{shown(file.name)} states its license: {error}, or give {option('license')}"
        ) from None
