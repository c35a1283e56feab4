"""Recognising a Segment Anything checkpoint by the names and shapes of its tensors.

Every tensor is accounted for: a model with tensors that its family does not have is not one of the family, but based on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from bhk.base.errors import listed, option, shown
from bhk.base.texts import counted
from bhk.checkpoint.companions import CONFIG
from bhk.container.header import ModelEntry
from bhk.sam.allocation import finer_db
from bhk.sam.architecture import Architecture, Configured, Hiera, Published, Sam2, Shapes, UnreadableShapesError
from bhk.sam.configuration import Configuration
from bhk.sam.names import Accounts, accounts, fingerprint, fingerprints
from bhk.sam.sam2_models import trunk_sizes, with_stability
from bhk.sam.settings import SettingError
from bhk.sam.tree import settings_in
from bhk.sam.variants import BASE, FAMILIES, FURTHER, VARIANTS, WITHIN, Family, Variant, find_variant

_SHOWN = 3  # names in a message
_PLACES = 16  # prefixes that are tried
# Parts of names by which people know a model of the family.
_TELLING = frozenset({"image_encoder", "vision_encoder", "prompt_encoder", "mask_decoder", "sam_mask_decoder"})


@dataclass(frozen=True)
class Recognised:
    """A recognised checkpoint.

    Attributes:
        family: its architecture and layout of names.
        prefix: what comes before every name of the model.
        architecture: its sizes and settings; None if they are not known.
        variant: the published model of these sizes, if there is one.
        further: names within the model that no model of the family has.
        beside: names of tensors that do not belong to the model.
        fault: why bhk cannot build the model, as the end of a sentence that starts with "because"; None if it can.
        asks: whether a configuration would mend the fault.
        fits: whether its tensors go into a whole model of the family: it is a part of one, or has more tensors than one.
        note: what was assumed about the model, for the user; None if nothing was.
    """

    family: Family
    prefix: str
    architecture: Architecture | None = None
    variant: Variant | None = None
    further: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    fault: str | None = None
    asks: bool = False
    fits: bool = False
    note: str | None = None

    @property
    def entry(self) -> ModelEntry:
        """The model's entry in a header, from which a loader builds it, if there is no fault."""
        name = self.variant.name if self.variant else None
        arguments: dict[str, Any] = {WITHIN: self.prefix} if self.beside else {}
        if self.further:
            base = {BASE: name} if name else {}
            return ModelEntry(self.family.name, None, arguments | base | {FURTHER: len(self.further)})
        if self.architecture is not None and self.fault is None:
            arguments |= msgspec.json.decode(msgspec.json.encode(self.architecture))
        return ModelEntry(self.family.name, name, arguments)

    @property
    def remedy(self) -> str:
        """What to do about the fault, as the end of a sentence."""
        if self.asks:
            return "or build the module yourself and load its .bhk file with bhk.load_into"
        if not self.fits:
            return "build the module yourself and load its .bhk file with bhk.load_into"
        return (
            f'put its .bhk file into a whole {self.family.title}, with these lines: model = bhk.load("WHOLE", mode="dense"); '
            'print(bhk.load_into(model, "THIS.bhk", strict=False)), which names what is missing and what is further'
        )

    def finer_db(self, name: str) -> float:
        """Return how many dB the level of tensor `name` is above the model's; 0 for those that the family does not have."""
        own = self.family.own_name(name.removeprefix(self.prefix))
        if not name.startswith(self.prefix) or own in self.further:
            return 0.0
        return finer_db(self.family, own)


@dataclass(frozen=True)
class _Match:
    """A family whose marks are among the names that start with a prefix."""

    family: Family
    prefix: str
    shapes: Mapping[str, tuple[int, ...]]
    beside: tuple[str, ...]
    accounts: Accounts

    @property
    def odd(self) -> int:
        """How many names do not fit."""
        return len(self.accounts.further) + len(self.accounts.missing) + len(self.beside)

    @property
    def is_likely(self) -> bool:
        """Whether the tensors are a model of the family, a part of one, or one that is based on it."""
        further, missing = bool(self.accounts.further), len(self.accounts.missing)
        return not (further or missing) if self.beside else not further or missing < self.accounts.shared


def recognise(shapes: Mapping[str, tuple[int, ...]], configuration: Configuration | None = None) -> Recognised | None:
    """Return which model has tensors of these names and shapes, or None if it is not of the family.

    Args:
        shapes: the shape of each tensor by its name.
        configuration: what is known about the model besides.
    """
    matches = _matches(shapes, configuration)
    best = matches[0] if matches else None
    if best is None or not best.is_likely:
        return None
    found = _recognised(best, configuration)
    equal = [match.prefix for match in matches if match.odd == best.odd and match.family is best.family]
    if len(equal) == 1:
        return found
    fault = f"it holds several models of the kind, below {listed(equal)}; choose one with {option('key')}"
    return replace(found, architecture=None, fault=fault, asks=False)


def unrecognised(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return why tensors that look like those of the family are none of its models; None if they do not look so."""
    matches = _matches(shapes, None)
    if matches:
        best = matches[0]
        odd = best.accounts.missing or best.accounts.further
        lacks = "lacks" if best.accounts.missing else "has also"
        return f"what is below {best.prefix!r} is like {best.family.title}, but {lacks} {_names(odd)}"
    parts = {part for name in shapes for part in name.split(".")[:-1]}
    if parts.isdisjoint(_TELLING):
        return None
    return f"no model of the family has names such as {shown(next(iter(shapes)), 60)} in the places where this one has them"


def _matches(shapes: Mapping[str, tuple[int, ...]], configuration: Configuration | None) -> list[_Match]:
    """Return the families whose marks are there, the one that fits best first."""
    found = []
    for prefix in _prefixes(shapes):
        stored = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
        beside = tuple(name for name in shapes if not name.startswith(prefix))
        for family in FAMILIES.values():
            inside = {family.own_name(name): shape for name, shape in stored.items()} if family.renames else stored
            if all(map(Shapes(inside).has, family.marks)):
                found.append(_Match(family, prefix, inside, beside, accounts(family.name, family.extra, inside)))
    kind = configuration.model_type if configuration else None
    return sorted(found, key=lambda match: (match.odd, kind not in match.family.classes))


def _prefixes(names: Iterable[str]) -> list[str]:
    """Return what comes before the first mark of any family in some name."""
    marks = {family.marks[0] for family in FAMILIES.values()}
    found: dict[str, None] = {}
    for name in names:
        for mark in marks:
            place = 0 if name.startswith(mark) else name.find(f".{mark}") + 1
            if place or name.startswith(mark):
                found[name[:place]] = None
        if len(found) == _PLACES:
            break
    return list(found)


def _recognised(match: _Match, configuration: Configuration | None) -> Recognised:
    further = match.accounts.further
    shapes = {name: shape for name, shape in match.shapes.items() if name not in further} if further else match.shapes
    found = replace(_of_family(match.family, match.prefix, shapes, configuration), beside=match.beside)
    if further:
        base = found.variant.title if found.variant else match.family.title
        fault = f"it is based on {base}, with {counted(len(further), 'further tensor')} ({_names(further)})"
        return replace(found, architecture=None, further=further, fault=fault, asks=False, fits=True)
    if missing := match.accounts.missing:
        fault = f"it is a part of {match.family.title}: {counted(len(missing), 'name')} missing ({_names(missing)})"
        return replace(found, architecture=None, variant=None, fault=fault, asks=False, fits=True)
    return found


def _of_family(
    family: Family, prefix: str, shapes: Mapping[str, tuple[int, ...]], configuration: Configuration | None
) -> Recognised:
    """Return what shapes and a configuration tell about a model of a family."""
    sizes = _sizes(family, shapes)
    if sizes is None and not family.classes:
        return Recognised(family, prefix, fault="its tensors are not those of a whole model of the family")
    variant = _chosen(family, sizes, configuration) or find_variant(family.name, sizes)
    if variant is not None and not family.any_size and _fingerprinted(family, shapes) is None:
        return Recognised(family, prefix, fault=f"its tensors have other shapes than those of {variant.title}")
    origin = configuration.origin if configuration else ""
    try:
        settings = None if configuration is None else _settings(family, configuration)
    except SettingError as error:
        return Recognised(family, prefix, variant=variant, fault=f"{origin} has {error}")
    if settings is not None and isinstance(sizes, Hiera) and trunk_sizes(settings) != (sizes.embed_dim, sizes.stages):
        return Recognised(family, prefix, variant=variant, fault=f"{origin} describes a model of another size")
    if settings is not None and isinstance(sizes, Sam2) and (sizes.release == "2.1") != _points_in_time(settings):
        return Recognised(family, prefix, variant=variant, fault=f"{origin} describes another release of SAM 2")
    if settings is not None:
        return Recognised(family, prefix, Configured(settings), variant)
    if family.twins and variant is not None and _chosen(family, sizes, configuration) is None:
        return Recognised(family, prefix, variant=variant, fault=_undecided(variant), asks=True)
    if family.tree is None and sizes is not None:
        return Recognised(family, prefix, sizes, variant)
    return Recognised(family, prefix, variant=variant, fault=_unknown_settings(family, variant), asks=True)


def _points_in_time(settings: Mapping[str, Any]) -> bool:
    """Return whether settings of a SAM 2 are of release 2.1, which projects the times of its pointers to objects."""
    return bool(settings.get("proj_tpos_enc_in_obj_ptrs"))


def _chosen(family: Family, sizes: Architecture | None, configuration: Configuration | None) -> Variant | None:
    """Return the variant of these sizes that a configuration names, or None."""
    named = VARIANTS.get(configuration.variant) if configuration and configuration.variant else None
    return named if named and named.family == family.name and named.architecture == sizes else None


def _undecided(variant: Variant) -> str:
    twins = [other for other in VARIANTS.values() if other.family == variant.family and other.files]
    titles, names = (" and ".join(texts) for texts in ([twin.title for twin in twins], [twin.name for twin in twins]))
    return f"{titles} have the same tensors but answer differently; say which it is with {option('config')}, one of {names}"


def _sizes(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> Architecture | None:
    if family.type is Published:
        found = _fingerprinted(family, shapes)
        return None if found is None else Published(found)
    return None if family.read is None else _read(family.read, family.type, Shapes(shapes))


def _fingerprinted(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the published model of a family whose names and shapes these are, apart from what it may have besides."""
    always = {
        name: shape for name, shape in shapes.items() if not any(fnmatchcase(name, pattern) for pattern in family.extra)
    }
    known, own = fingerprints(), fingerprint(always)
    return next(
        (name for name, other in VARIANTS.items() if other.family == family.name and known.get(name) == own), None
    )


def _settings(family: Family, configuration: Configuration) -> dict[str, Any] | None:
    """Return the settings that a configuration has for a model of the family; None if it has none.

    Raises:
        SettingError: they are those of another model.
    """
    if configuration.model_type in family.classes:
        return dict(configuration.settings)
    if family.tree is None or configuration.model_type:
        return None
    if configuration.settings:
        return dict(configuration.settings)
    if configuration.variant is not None:
        settings = VARIANTS[configuration.variant].settings
        return None if settings is None else dict(settings)
    return with_stability(settings_in(configuration.document, family.tree)) if configuration.document else None


def _unknown_settings(family: Family, variant: Variant | None) -> str:
    """Return what is not known about a model, and how to give it."""
    if family.tree is None:
        return f"no tensor shows its settings, such as the size of its pictures; put its {CONFIG} beside it"
    usual = f", such as {variant.config} for {variant.title}" if variant and variant.config else ""
    return (
        f"no tensor shows its settings, such as the size of its pictures; give its YAML file as {option('config')}, or the "
        f"name of one in its package{usual}"
    )


def _read(read: Callable[[Shapes], Architecture], type: type[Architecture], shapes: Shapes) -> Architecture | None:
    """Return the architecture as a header would give it back, with its sizes checked, or None if the shapes do not fit."""
    try:
        return msgspec.convert(msgspec.to_builtins(read(shapes)), type)
    except (UnreadableShapesError, msgspec.ValidationError):
        return None


def _names(names: Iterable[str]) -> str:
    return listed(names, _SHOWN)
