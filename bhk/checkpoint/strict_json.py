"""JSON from outside: one object, each key once."""

from __future__ import annotations

import json
from collections import Counter


class StrictJsonError(ValueError):
    """The text is not one JSON object with unique keys."""


def parse_object(text: bytes) -> dict[str, object]:
    """Return the JSON object in `text`.

    Raises:
        StrictJsonError: it is no UTF-8, no JSON, no object, or some key occurs twice.
    """
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except StrictJsonError:
        raise
    except (ValueError, RecursionError) as error:
        raise StrictJsonError(f"no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise StrictJsonError("JSON, but no object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise StrictJsonError(f"the key {twice!r} occurs twice")
    return mapping
