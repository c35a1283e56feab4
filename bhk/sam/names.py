"""The names that the tensors of each family have, so that every tensor of a checkpoint is accounted for.

`names.json` is made from the names and shapes of published checkpoints by `python -m tools.sam_names`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any

ANY = "#"  # stands for a number in a name, such as that of a block


@dataclass(frozen=True)
class Accounts:
    """How the names of a checkpoint compare with those of a family.

    Attributes:
        further: names that no model of the family has.
        missing: names, with "#" for numbers, that every model of the family has, but not this one.
        shared: how many of such names it has.
    """

    further: tuple[str, ...]
    missing: tuple[str, ...]
    shared: int


def accounts(family: str, extra: Iterable[str], names: Iterable[str]) -> Accounts:
    """Compare names with those of a family; names that match a pattern of `extra` may be there or not."""
    known = _names().get(family)
    if known is None:  # its config.json tells the class, which checks the names when the model is loaded
        return Accounts((), (), 0)
    general = {name: generalised(name) for name in names}
    found = set(general.values())
    others = [name for name, form in general.items() if form not in known]
    further = tuple(name for name in others if not any(fnmatchcase(name, pattern) for pattern in extra))
    missing = tuple(name for name, always in known.items() if always and name not in found)
    return Accounts(further, missing, len(found & known.keys()))


def fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a hash of names and shapes, by which a model of fixed sizes is told."""
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def fingerprints() -> Mapping[str, str]:
    """Return the fingerprint of each published model, by the names of variants."""
    found: dict[str, str] = _data()["fingerprints"]
    return found


def generalised(name: str) -> str:
    """Return a name with "#" in place of numbers between its dots."""
    return ".".join(ANY if part.isdecimal() else part for part in name.split("."))


@functools.cache
def _names() -> dict[str, dict[str, bool]]:
    """Return the names of each family, and whether all its models have them."""
    return {family: dict(_flat("", tree)) for family, tree in _data()["names"].items()}


def _flat(start: str, tree: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
    for part, below in tree.items():
        if isinstance(below, dict):
            yield from _flat(f"{start}{part}.", below)
        else:
            yield start + part, bool(below)


@functools.cache
def _data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("bhk.sam").joinpath("names.json").read_text(encoding="utf-8"))
    return found
