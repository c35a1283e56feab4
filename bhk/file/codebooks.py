"""Both halves of the mapping between a codebook of the codec and its entry in a header."""

from __future__ import annotations

import msgspec

from bhk.codec.codebook import Codebook
from bhk.container.header import CodebookEntry


def entry_of(codebook: Codebook) -> CodebookEntry:
    """Return the header entry for a codebook."""
    lattice = "centred" if codebook.centred else "corner"
    square = CodebookEntry(codebook.centre, codebook.side, codebook.windings, lattice)
    if not codebook.shells:
        return square
    return msgspec.structs.replace(square, shells=codebook.shells, spacing=codebook.spacing)


def codebook_of(entry: CodebookEntry) -> Codebook:
    """Return the codebook of a header entry."""
    centred = entry.lattice == "centred"
    return Codebook(entry.centre, entry.side, entry.windings, entry.shells, entry.spacing, centred)
