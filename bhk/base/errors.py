"""The base class of all bhk errors, and how messages quote what was found."""

from __future__ import annotations

from collections.abc import Iterable


class BhkError(Exception):
    """Base class of all bhk errors. The message says what was found, what was expected and what to do."""


def shown(text: object, limit: int = 120) -> str:
    """Return text from a file in a form that is safe to print: one line of at most `limit` characters, no terminal codes."""
    plain = str(text)
    if len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return plain if plain.isprintable() else ascii(plain)


def listed(items: Iterable[object], limit: int = 12) -> str:
    """Return `items` joined by commas; beyond `limit`, only their number."""
    every = list(items)
    text = ", ".join(shown(item) for item in every[:limit])
    return text if len(every) <= limit else f"{text} and {len(every) - limit} more"
