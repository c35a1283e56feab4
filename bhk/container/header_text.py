"""Parsing the JSON text of a header into plain values: rules H1 and H2."""

from __future__ import annotations

import re
from typing import Any

from bhk.base.strict_json import StrictJsonError, parse
from bhk.container.errors import DuplicateKeyError, HeaderSyntaxError

MAX_DEPTH = 64

# A pair of surrogate escapes, a lone one (the group), or any other escape. In valid JSON every backslash starts an escape.
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def load_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`, the text of the header with the spaces behind it.

    Raises:
        HeaderSyntaxError: rule H1.
        DuplicateKeyError: rule H2.
    """
    if data.lstrip(b" \t\n\r")[:1] != b"{" or data.rstrip(b" ")[-1:] != b"}":
        raise HeaderSyntaxError("a text that does not run from { to }", "one JSON object, then spaces only")
    try:
        value, twice = parse(data, finite=True)
    except StrictJsonError as error:
        raise HeaderSyntaxError(error, "one JSON object in UTF-8") from None
    for escape in _ESCAPE.finditer(data.decode("utf-8")):
        if escape[1]:
            raise HeaderSyntaxError(f"the lone surrogate \\{escape[1]}", "Unicode text")
    _check_depth(value)
    if twice is not None:
        raise DuplicateKeyError(f"key {twice[:80]!r} twice in one object", "each key once", "header")
    result: dict[str, Any] = value
    return result


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise HeaderSyntaxError(f"more than {MAX_DEPTH} nested objects and arrays", f"at most {MAX_DEPTH} levels")
