"""Recognising a Segment Anything checkpoint by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from bhk.container.header import ModelEntry
from bhk.sam.allocation import finer_db
from bhk.sam.architecture import Architecture, Shapes, UnreadableShapesError
from bhk.sam.variants import FAMILIES, Family, Variant, find_variant

_PREFIXES = ("", "sam.", "model.")


@dataclass(frozen=True)
class Recognised:
    """A recognised checkpoint.

    Attributes:
        family: its architecture and layout of names.
        prefix: the prefix that a wrapper module put before every name.
        architecture: its sizes; None if the shapes do not make up a whole model of the family.
        variant: the published model of these sizes, if there is one.
        deviations: settings in the checkpoint's config.json that differ from those bhk builds, such as "a.b = 1".
    """

    family: Family
    prefix: str
    architecture: Architecture | None = None
    variant: Variant | None = None
    deviations: tuple[str, ...] = ()

    @property
    def entry(self) -> ModelEntry:
        """The model's entry in a header, from which a loader builds it; no sizes if they would build another model."""
        if self.deviations:
            return ModelEntry(self.family.name)
        arguments = {} if self.architecture is None else msgspec.json.decode(msgspec.json.encode(self.architecture))
        return ModelEntry(self.family.name, self.variant.name if self.variant else None, arguments)

    def finer_db(self, name: str) -> float:
        """Return how many dB the level of tensor `name`, without the prefix, is above the model's."""
        return finer_db(self.family, name)


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
    """Return which model has tensors of these names and shapes, or None if it is not of the family."""
    for prefix in _PREFIXES:
        if not all(name.startswith(prefix) for name in shapes):
            continue
        stripped = Shapes({name[len(prefix) :]: shape for name, shape in shapes.items()})
        for family in FAMILIES.values():
            if all(map(stripped.has, family.marks)):
                architecture = _read(family, stripped)
                variant = None if architecture is None else find_variant(family.name, architecture)
                return Recognised(family, prefix, architecture, variant)
    return None


def _read(family: Family, shapes: Shapes) -> Architecture | None:
    """Return the architecture as a header would give it back, with its sizes checked, or None if the shapes do not fit."""
    try:
        return msgspec.convert(msgspec.to_builtins(family.read(shapes)), family.type)
    except (UnreadableShapesError, msgspec.ValidationError):
        return None
