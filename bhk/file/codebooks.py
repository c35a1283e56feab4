"""Both halves of the mapping between a codebook of the codec and its entry in a header."""

from __future__ import annotations

from typing import TypeVar, cast

import msgspec

from bhk.codec.geometry import Geometry
from bhk.codec.trajectory import Lattice
from bhk.container.header import CodebookEntry

Kind = TypeVar("Kind", bound=Geometry)


def entry_of(codebook: Geometry) -> CodebookEntry:
    """Return the header entry for a codebook."""
    square = CodebookEntry(codebook.centre, codebook.side, codebook.windings, codebook.lattice)
    if not codebook.shells:
        return square
    return msgspec.structs.replace(square, shells=codebook.shells, spacing=codebook.spacing)


def codebook_of(entry: CodebookEntry, kind: type[Kind]) -> Kind:
    """Return the codebook of a header entry, as a `Geometry`, or as a `Codebook` for torch."""
    return kind(entry.centre, entry.side, entry.windings, entry.shells, entry.spacing, cast(Lattice, entry.lattice))
