"""Headers of `.bhk` files that a stranger wrote: any value in any place, with every hash and length set right."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import zstandard

from tools.corruption.attacks import Cases
from tools.format_spec.builder import Draft, align, seal
from tools.format_spec.good import GOOD
from tools.format_spec.good_coded import CODED
from tools.format_spec.good_compressed import COMPRESSED

DRAFTS = {**GOOD, **CODED, **COMPRESSED}
# Together they have every key of the format.
_SOURCES = (
    *("example", "extension_keys", "model_entry", "metadata", "aliases", "exact_chunks"),
    *("bytes_shells", "packed_chunks", "grid_zeros", "shells_corner"),
)
_MISSING = None
_LIMITS = (0, 1, 8, 24, 32, 63, 64, 128, 255, 256, 1024, 4096, 1 << 20, 1 << 24, 1 << 26, 1 << 31, 1 << 32, 1 << 48)
WIDE = tuple(edge + more for edge in (*_LIMITS, 1 << 53, 1 << 63, 1 << 64) for more in (-1, 0, 1))
# JSON texts that stand in place of a value.
VALUES: tuple[str | None, ...] = (
    _MISSING,
    *dict.fromkeys(map(str, WIDE)),
    *("-2147483649", "-9007199254740993", "-9223372036854775809", "1" + "0" * 308, "1" + "0" * 309),
    *(
        "null",
        "true",
        '"x"',
        '""',
        "{}",
        "[]",
        "[0]",
        "[null]",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-0.0",
        "1.5",
        "1e-45",
    ),
    *(
        json.dumps(word)
        for word in ("zstd", "none", "packed", "shuffle+zstd", "codes", "values", "exact", "trajectory")
    ),
    *(
        json.dumps(word)
        for word in ("F32", "F64", "U8", "rows", "flat", "grid", "corner", "../x", "\x1b[2J", "a" * 1025)
    ),
    *(
        '"' + "a" * (1 << 20) + '"',
        "[" * 62 + "]" * 62,
        "[" * 70 + "]" * 70,
        "[" * 100_000,
        '{"x-":' * 100 + "1" + "}" * 100,
    ),
)
_MARK = "\ue000"


def fields() -> Cases:
    """Put each value in place of each value in a header."""
    for source in _SOURCES:
        draft = DRAFTS[source]()
        for form in ("text", "compressed"):
            tree = _whole(draft, form)
            for path in places(tree):
                for value in VALUES:
                    name = f"{source}, {form}: {'.'.join(map(str, path))} = {str(value)[:40]}"
                    yield name, partial(_changed, draft, tree, path, value, form)


def preambles() -> Cases:
    """Put numbers into the fields of the preamble, once with the hash of the header set right and once without."""
    for source in ("example", "compressed_places"):
        data = DRAFTS[source]().encode()
        for at, code in ((8, "<H"), (10, "<H"), (12, "<I"), (16, "<Q"), (24, "<Q")):
            size = struct.calcsize(code)
            old = int.from_bytes(data[at : at + size], "little")
            for value in sorted({*WIDE, *(old + more for more in (-64, -1, 1, 64))}):
                if 0 <= value < 1 << 8 * size:
                    file = data[:at] + struct.pack(code, value) + data[at + size :]
                    yield f"{source}: {value} at {at}", partial(bytes, file)
                    yield f"{source}: {value} at {at}, sealed", partial(seal, file)


def _whole(draft: Draft, form: str) -> Any:
    """Return the header of a file with all that follows from its data."""
    draft = draft.copy()
    draft.frame = None if form == "text" else zstandard.ZstdCompressor().compress
    text: list[str] = []
    draft.text = lambda found: text.append(found) or found  # type: ignore[func-returns-value]
    draft.encode()
    return json.loads(text[-1])


def places(tree: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every value; of layers, only the first three."""
    if at:
        yield at
    if isinstance(tree, dict):
        entries: Any = tree.items()
    elif isinstance(tree, list):
        entries = enumerate(tree[:3])
    else:
        return
    for key, value in entries:
        yield from places(value, (*at, key))


def _changed(draft: Draft, tree: Any, path: tuple[str | int, ...], value: str | None, form: str) -> bytes | None:
    """Return the file with another value in its header; None if there is no room for it."""
    return _assembled(draft, with_value(tree, path, value), form)


def with_value(tree: Any, path: tuple[str | int, ...], value: str | None) -> str:
    """Return the JSON text of a tree with the text `value` in one place, or without that place."""
    tree = copy.deepcopy(tree)
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    if value is _MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = _MARK
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"{_MARK}"', value or "")


def _assembled(draft: Draft, text: str, form: str) -> bytes | None:
    """Return the streams of a draft behind a header of this text; None if it is too long for the offsets in it."""
    encoded = text.encode("utf-8", "surrogatepass")
    whole = draft.encode()
    length = int.from_bytes(whole[16:24], "little")
    draft = draft.copy()
    draft.frame = None if form == "text" else bytes
    body = b""
    for data, start in zip(draft.data, draft.places(), strict=True):
        body = body.ljust(start, b"\0") + data
    if form == "text":
        if len(encoded) > length:
            return None
        return seal(whole[:12] + struct.pack("<IQ", 0, length) + bytes(40) + encoded.ljust(length) + body)
    frame = zstandard.ZstdCompressor().compress(encoded)
    length = align(64 + len(frame)) - 64
    return seal(whole[:12] + struct.pack("<IQ", len(frame), length) + bytes(40) + frame.ljust(length, b"\0") + body)
