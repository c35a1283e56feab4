"""Strict parsing of JSON from outside: no duplicate keys, nothing beyond the JSON standard."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn


class StrictJsonError(ValueError):
    """The text is not one JSON object with unique keys."""


def parse_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object in `text`. NaN and Infinity are allowed, because transformers writes them.

    Raises:
        StrictJsonError: the text is not UTF-8, not JSON or not an object, or a key occurs twice.
    """
    value, twice = parse(text, finite=False)
    if twice is not None:
        raise StrictJsonError(f"the key {twice!r} occurs twice")
    if not isinstance(value, dict):
        raise StrictJsonError("JSON, but not an object")
    return value


def parse(text: bytes, *, finite: bool) -> tuple[Any, str | None]:
    """Return the JSON value in `text`, and the first key that occurs twice in one object, or None.

    An object with a duplicate key is returned as the list of all its values, so that none is hidden.

    Args:
        finite: refuse NaN, Infinity and numbers beyond the range of a double.

    Raises:
        StrictJsonError: the text is not UTF-8 or not JSON.
    """
    twice: list[str] = []

    def read_object(pairs: list[tuple[str, Any]]) -> Any:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        twice.append(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
        return [item for _, item in pairs]

    numbers: dict[str, Any] = (
        {"parse_constant": _no_constant, "parse_float": _finite, "parse_int": _integer} if finite else {}
    )
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=read_object, **numbers)
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"a byte that is not UTF-8 at {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(f"invalid JSON ({error})") from error
    return value, twice[0] if twice else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text[:40]} is beyond the range of a double")
    return value


def _integer(text: str) -> int:
    _finite(text)  # also keeps thousands of digits away from int()
    return int(text)
