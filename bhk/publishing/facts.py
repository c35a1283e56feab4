"""What a card is to say: gathered from .bhk files, from results of evaluations, and from whoever publishes them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bhk.base.errors import BhkError, listed, shown
from bhk.base.hashes import sha256
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import CONFIG, companions_of
from bhk.hub.address import Address, parse_address
from bhk.hub.errors import HubError
from bhk.publishing.licences import Licence, UnknownLicenceError, licence_of
from bhk.publishing.results import EvaluationDocumentError, Result, read_result
from bhk.sam.variants import FAMILIES, VARIANTS, Variant, published_as
from bhk.tasks.inspect import InspectionReport, inspect

LICENCE_KEYS = ("licence", "license")  # entries of a file's metadata

# Classes of transformers for the layouts of the family, whose config.json may name the one for films.
_CLASSES = {
    "transformers_sam": "SamModel",
    "transformers_sam_hq": "SamHQModel",
    "transformers_sam2": "Sam2Model",
}
_PARTS = ("sam_encoder", "mobile_sam_v2")  # families that are no whole model


class PublicationError(BhkError):
    """What is to be published does not go together, or lacks something."""


@dataclass(frozen=True)
class FileFacts:
    """A .bhk file.

    Attributes:
        name: in the repository.
        inspection: its layers, one row a role.
        sha256: of its bytes.
        results: of evaluations of this very file.
        kept_results: what the repository's card shows of such results; None when it shows none.
    """

    name: str
    inspection: InspectionReport
    sha256: str
    results: tuple[Result, ...] = ()
    kept_results: str | None = None

    @property
    def is_measured(self) -> bool:
        """Whether there are results."""
        return bool(self.results) or self.kept_results is not None

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of its header."""
        return self.inspection.metadata

    @property
    def source(self) -> str | None:
        """Name of the checkpoint that it was made from, or its address on the Hub."""
        return self.metadata.get("source.name")

    @property
    def source_repository(self) -> str | None:
        """The repository on the Hub that it was made from; None for other sources."""
        address = _address(self.source) if self.source else None
        return None if address is None else address.repository

    @property
    def family(self) -> str | None:
        """Name of the family that it belongs to, if `bhk.load` builds its model; else None."""
        model = self.inspection.model
        return model.family if model and model.family in FAMILIES and model.arguments else None

    @property
    def segments(self) -> bool:
        """Whether it is a whole model that answers points and boxes with masks."""
        return self.family is not None and self.family not in _PARTS

    @cached_property
    def architecture(self) -> str | None:
        """The class of transformers that its config.json names first; None when it names none."""
        text = companions_of(self.metadata).get(CONFIG)
        try:
            names = parse_object((text or "{}").encode("utf-8")).get("architectures")
        except (StrictJsonError, UnicodeEncodeError):
            return None
        name = names[0] if isinstance(names, list) and names else None
        return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,99}", name, re.ASCII) else None

    @property
    def transformers_class(self) -> str | None:
        """The class of transformers that loads it; None when it is no model of transformers."""
        if CONFIG not in companions_of(self.metadata):
            return None
        if self.family in _CLASSES:
            return _CLASSES[self.family]
        with_head = self.architecture is not None and "For" in self.architecture
        return self.architecture if with_head else "AutoModel"

    @property
    def like(self) -> Variant | None:
        """A published model of the same sizes; None where there is none."""
        model = self.inspection.model
        found = VARIANTS.get(model.variant) if model and model.variant else None
        return found if found and found.architecture is not None else None

    @property
    def variant(self) -> Variant | None:
        """The published model that it was made from, as far as the name of its source tells; else None.

        Sizes alone do not tell: a fine-tune has those of what it began with, and may have another licence.
        """
        repository, model = self.source_repository, self.inspection.model
        if repository is not None:
            return next((variant for variant in VARIANTS.values() if variant.hub == repository), None)
        return published_as(model.family, model.variant, self.source) if model and self.source else None


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        repository: "user/repo".
        files: the .bhk files in it.
        base_models: repositories of the Hub that they were made from; empty when one of them does not tell.
        licence: of the weights; None when nobody knows.
    """

    repository: str
    files: tuple[FileFacts, ...]
    base_models: tuple[str, ...]
    licence: Licence | None

    @property
    def hints(self) -> tuple[str, ...]:
        """What nobody has said, for whoever publishes the files to read."""
        hints = []
        if self.licence is None:
            alike = dict.fromkeys(
                f"{file.inspection.title}, published under {like.licence}" for file in self.files if (like := file.like)
            )
            sizes = f" (its sizes are those of {'; '.join(alike)})" if alike else ""
            hints.append(f"no licence is known{sizes}; give that of the weights with --licence (licence=)")
        if not self.base_models and any(
            not same_repository(file.source_repository, self.repository) for file in self.files
        ):
            hints.append(
                "no base model is known; give the repository of the Hub that the weights come from with --base-model "
                "(base_model=)"
            )
        return (*hints, *dict.fromkeys(hint for file in self.files for hint in _hints_of_results(file)))


def card_facts(
    files: Mapping[str, str | os.PathLike[str]],
    repository: str,
    *,
    evaluation: Sequence[str | os.PathLike[str]] = (),
    base_model: str | None = None,
    licence: str | None = None,
) -> CardFacts:
    """Gather what a card says.

    Args:
        files: the .bhk files on this machine, by their names in the repository.
        repository: "user/repo".
        evaluation: files that `bhk eval --out` wrote, about these very files.
        base_model: repository of the Hub that they were made from; None: as the files tell.
        licence: of the weights; None: as the files tell, or that of the published model. What a file states itself holds.

    Raises:
        ReadError, FormatError: a file cannot be read or breaks a rule of the format.
        EvaluationDocumentError: a result is none, or of another file.
        PublicationError: there are no files, or they have different licences or another than was given, or `base_model` is
            no other repository.
        UnknownLicenceError: the Hub does not know the licence.
    """
    if not files:
        raise PublicationError("there are no .bhk files to publish; give at least one")
    results = [(path, read_result(path)) for path in evaluation]
    facts = tuple(_file_facts(name, Path(path), results) for name, path in files.items())
    for path, result in results:
        if all(result.model.sha256 != file.sha256 for file in facts):
            raise EvaluationDocumentError(
                f"{shown(os.fsdecode(path))} is about another file ({shown(result.model.name)}, "
                f"SHA-256 {shown(result.model.sha256)[:12]}…) than {listed(files.values(), 3)}; evaluate what you publish"
            )
    known = _given_licence(licence, facts) if licence else _licence(facts)
    return CardFacts(repository, facts, _base_models(facts, repository, base_model), known)


def _hints_of_results(file: FileFacts) -> Iterator[str]:
    """Yield what to say of results that compare with something else than the file was made from."""
    source = file.metadata.get("source.sha256")
    for result in file.results:
        if source is not None and result.original is not None and result.original.sha256 != source:
            yield (
                f"results of {shown(file.name)} compare with other weights ({shown(result.original.name)}, SHA-256 "
                f"{shown(result.original.sha256)[:12]}…) than it was made from ({shown(file.source)}, "
                f"{shown(source)[:12]}…); evaluate against those"
            )


def repository_of(text: str) -> str | None:
    """Return the repository on the Hub that `text` names, and nothing but that; else None."""
    address = _address(text)
    return None if address is None or address.path or address.revision else address.repository


def _address(text: str) -> Address | None:
    """Return the place on the Hub that `text` names; None if it names none."""
    try:
        return parse_address(text)
    except HubError:
        return None


def _file_facts(name: str, path: Path, results: Sequence[tuple[object, Result]]) -> FileFacts:
    found, digest = inspect(path, by="role"), sha256([path])
    return FileFacts(name, found, digest, tuple(result for _, result in results if result.model.sha256 == digest))


def same_repository(one: str | None, other: str) -> bool:
    """Tell whether two names are of one repository."""
    return one is not None and one.casefold() == other.casefold()


def _base_models(files: Sequence[FileFacts], target: str, given: str | None) -> tuple[str, ...]:
    """Return what the files were made from, but for the repository that they go into; nothing when one does not tell."""
    if given is None:
        found = [file.source_repository or (file.variant.hub if file.variant else None) for file in files]
        if None in found:
            return ()
        return tuple(dict.fromkeys(base for base in found if base is not None and not same_repository(base, target)))
    repository = repository_of(given)
    if repository is None:
        raise PublicationError(f"base model {shown(given)!r} is no repository of the Hub; expected user/repo")
    if same_repository(repository, target):
        raise PublicationError(f"{repository} cannot be its own base model; give the repository of the original")
    return (repository,)


def _licence(files: Sequence[FileFacts]) -> Licence | None:
    """Return the licence that all files have; None when one of them does not tell."""
    found = {file.name: _licence_of(file) for file in files}
    if len(set(found.values())) > 1 and None not in found.values():
        named = ", ".join(f"{shown(name)}: {licence.title}" for name, licence in found.items() if licence)
        raise PublicationError(f"the files have different licences ({named}); say which holds, or publish them apart")
    return None if None in found.values() else next(iter(found.values()))


def _given_licence(text: str, files: Sequence[FileFacts]) -> Licence:
    """Return the licence called `text`, unless a file itself states another that the Hub knows."""
    given = licence_of(text)
    for file in files:
        with contextlib.suppress(UnknownLicenceError):
            stated = _stated_licence(file)
            if stated not in (None, given):
                raise PublicationError(
                    f"{shown(file.name)} states the licence {stated.title}, and {given.title} was given; leave it out, or "
                    "convert the checkpoint again with the right --metadata licence=…"
                )
    return given


def _licence_of(file: FileFacts) -> Licence | None:
    stated = _stated_licence(file)
    if stated is not None:
        return stated
    return licence_of(file.variant.licence) if file.variant else None


def _stated_licence(file: FileFacts) -> Licence | None:
    """Return the licence that the metadata of a file state."""
    stated = next((file.metadata[key] for key in LICENCE_KEYS if key in file.metadata), None)
    try:
        return None if stated is None else licence_of(stated)
    except UnknownLicenceError as error:
        raise UnknownLicenceError(
            f"{shown(file.name)} states its licence: {error}; give it with --licence (licence=)"
        ) from None
