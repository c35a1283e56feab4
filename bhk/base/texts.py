"""Numbers and texts for people to read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable


def size(count: int) -> str:
    """Return a number of bytes as text: "2.56 GB"."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def times_smaller(stored: int, dense: int, float32: int) -> str:
    """Return how much smaller a file is: "3.50 times smaller than 7.4 MB (7.00 than float32)".

    Args:
        stored: bytes of the file.
        dense: bytes of its dense tensors.
        float32: bytes of the same tensors in float32; named only if they differ.
    """
    text = f"{dense / stored:.2f} times smaller than {size(dense)}"
    return text if float32 == dense else f"{text} ({float32 / stored:.2f} than float32)"


def number(value: float | None, digits: int = 2, suffix: str = "") -> str:
    """Return a number with `digits` decimals and a suffix; a dash for None and NaN, "∞" for infinity."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}{suffix}"


def scientific(value: float | None) -> str:
    """Return a number with three significant digits, such as "1.23e-02"; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.2e}" if value else "0"


_TOKEN = re.compile(r"hf_(?:(?:oauth|jwt|ott)_[\w.\-]{6,}|[A-Za-z0-9]{16,}[\w.\-]*)|(?<=[Bb]earer )\S+")
_LOGIN = re.compile(r"(?<=://)[^\s/?#]+@")  # user name and password before a host; the last @ ends them
_QUERY = re.compile(r"(?<=://)([^\s?'\"]+)\?[^\s'\"]+")  # the query of a URL, which may hold a signature


def redact(text: str) -> str:
    """Return `text` without access tokens, passwords in URLs and queries of URLs, which may hold signatures."""
    return _QUERY.sub(r"\1?***", _TOKEN.sub("hf_***", _LOGIN.sub("***@", text)))


def printable(text: str, keep: str = "") -> str:
    """Return `text` with all characters escaped that show nothing or steer a terminal, but not those of `keep`.

    Names come from files. Their control characters would move the cursor, and others would turn the order of letters around.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def printable_json(text: str) -> str:
    """Return JSON text in which such characters stand as \\u escapes; they only occur in strings."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things: "1 picture", "1,200 pictures"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def choices(values: Iterable[str]) -> str:
    """Return at least two values to choose from: "'auto', 'hyper' or 'dense'"."""
    *others, last = map(repr, values)
    return f"{', '.join(others)} or {last}"
