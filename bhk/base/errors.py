"""The root of every error that bhk raises on purpose, and how its message quotes what was found."""

from __future__ import annotations

from collections.abc import Iterable


class BhkError(Exception):
    """Base of all bhk errors: the message says what was found, what was expected and what to do."""


def shown(text: object, limit: int = 120) -> str:
    """Return `text` from a file as safe to print: on one line, without terminal codes, of bounded length."""
    plain = str(text)
    if len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return plain if plain.isprintable() else ascii(plain)


def listed(items: Iterable[object], limit: int = 12) -> str:
    """Return `items` joined by commas, with a count in place of those beyond `limit`."""
    every = list(items)
    text = ", ".join(shown(item) for item in every[:limit])
    return text if len(every) <= limit else f"{text} and {len(every) - limit} more"
