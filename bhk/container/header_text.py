"""The header's JSON text -> plain values: rules H1 and H2, whatever the text is about."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any, NoReturn

from bhk.container.errors import DuplicateKeyError, HeaderSyntaxError

MAX_DEPTH = 64

# A pair of surrogate escapes, a lone one (the group), or any other escape. In valid JSON every backslash starts one.
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def load_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data`, the header bytes with their padding.

    Raises:
        HeaderSyntaxError: rule H1.
        DuplicateKeyError: rule H2.
    """
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        raise HeaderSyntaxError(f"a byte that is not UTF-8 at {error.start}", "UTF-8") from None
    if text.lstrip(" \t\n\r")[:1] != "{" or text.rstrip(" ")[-1:] != "}":
        raise HeaderSyntaxError("a text that does not run from { to }", "one JSON object, then spaces only")
    twice: list[str] = []

    def read_object(pairs: list[tuple[str, Any]]) -> Any:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        twice.append(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
        return [item for _, item in pairs]  # keeps what every key holds, so that H1 is checked before H2

    try:
        value = json.loads(
            text, object_pairs_hook=read_object, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        raise HeaderSyntaxError(f"invalid JSON ({error})", "one JSON object") from None
    for escape in _ESCAPE.finditer(text):
        if escape[1]:
            raise HeaderSyntaxError(f"the lone surrogate \\{escape[1]}", "Unicode text")
    _check_depth(value)
    if twice:
        raise DuplicateKeyError(f"key {twice[0][:80]!r} twice in one object", "each key once", "header")
    result: dict[str, Any] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:40]} is beyond the range of a double")
    return value


def _integer(text: str) -> int:
    _finite(text)  # also keeps int() away from thousands of digits
    return int(text)


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
