"""Small good files, from which the bad ones are made, and ways to change them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tools.format_spec import zstd_frames as frames
from tools.format_spec.builder import (
    Draft,
    Json,
    codebook,
    coded_layer,
    draft,
    exact_layer,
    packed,
    plain,
    planes,
    scalar_bytes,
)

Change = Callable[[Draft], object]


def coded() -> Draft:
    """Return a good file with planes and shells."""
    file = draft(codebook(35, 0.1, shells=2, spacing=0.25))
    codes = [0, 1224, 3674]
    return coded_layer(file, "planes", [6], codes, planes(file, codes, frames.frame))


def short() -> Draft:
    """Return a good file with packed codes and metadata."""
    file = draft(codebook(4, 0.5), metadata={"source.name": "twin"})
    return coded_layer(file, "packed", [3, 2], [1, 2, 15], [packed([1, 2, 15], 4)], pairing="rows")


def kept() -> Draft:
    """Return a good file with exact values."""
    content = struct.pack("<3f", 1, 2, 3)
    return exact_layer(draft(), "values", [3], "F32", content, plain(content))


def empty() -> Draft:
    """Return a good file with a tensor without elements."""
    return exact_layer(draft(), "none", [0], "F32", b"", None)


def books() -> Draft:
    """Return a good file with codebooks that no layer needs."""
    return draft(codebook(35, 0.1, shells=2, spacing=0.25), codebook(4, 0.5))


def three() -> Draft:
    """Return a good file with three exact layers, and so with gaps between streams."""
    file = kept()
    exact_layer(file, "more", [2], "U8", b"ab", plain(b"ab"))
    return exact_layer(file, "last", [1], "U8", b"c", plain(b"c"))


def chunked() -> Draft:
    """Return a good file with planes in chunks of one pair."""
    file = draft(codebook(35, 0.1))
    codes = [0, 1224, 600]
    return coded_layer(file, "planes", [6], codes, planes(file, codes, frames.frame, chunk=1))


def in_bytes() -> Draft:
    """Return a good file with a byte a pair and shells."""
    file = draft(codebook(35, 0.1, shells=2, spacing=0.25), required_features=["scalar-bytes"])
    codes = [0, 34, 2 * 1225 + 6 * 35 + 34]
    return coded_layer(file, "bytes", [6], codes, scalar_bytes(file, codes, (0, 0, 35), frames.frame))


def padded() -> Draft:
    """Return a good file with three weights, so that the second pair ends with padding."""
    file = draft(codebook(35, 0.1))
    return coded_layer(file, "odd", [3], [0, 1224], planes(file, [0, 1224], frames.frame))


def three_by_three() -> Draft:
    """Return a good file with nine codes in four bits."""
    return coded_layer(draft(codebook(3, 0.5)), "packed", [4], [0, 8], [packed([0, 8], 4)])


def changed(change: Change, make: Callable[[], Draft] = short) -> bytes:
    """Return a file after a change."""
    file = make()
    change(file)
    return file.encode()


def put(place: Json, **fields: object) -> None:
    """Set fields of an entry."""
    place.update(fields)


def replaced(old: str, new: str) -> Change:
    """Return a change that puts `new` for the first `old` in the JSON text."""

    def change(file: Draft) -> None:
        def text(before: str) -> str:
            assert old in before, old
            return before.replace(old, new, 1)

        file.text = text

    return change
