"""The metadata of a model card on the Hub: a block of YAML at the beginning of README.md."""

from __future__ import annotations

import math
from typing import Any

from bhk.base.errors import BhkError, shown

BYTE_ORDER_MARK = "\ufeff"
CARD_ADVICE = "correct README.md first"
_MOST_VALUES = 100_000


class CardMetadataError(BhkError):
    """The metadata of a card cannot be read."""


def metadata_of(card: str) -> tuple[str, str]:
    """Return a card's metadata, unchanged and with the lines of dashes around it, and the card's text.

    Without metadata, the first is empty except for a byte order mark.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK  # slow to import, and only needed here

    mark = BYTE_ORDER_MARK if card.startswith(BYTE_ORDER_MARK) else ""
    found = REGEX_YAML_BLOCK.search(card[len(mark) :])
    end = len(mark) + (found.end() if found else 0)
    return card[:end], card[end:]


def text_of(block: str) -> str:
    """Return a block of metadata without the lines of dashes, keeping its line ends."""
    return "".join(block.strip(BYTE_ORDER_MARK).lstrip().splitlines(keepends=True)[1:-1])


def parsed(block: str) -> dict[str, Any]:
    """Return the metadata of a block.

    Raises:
        CardMetadataError: the block is not a YAML mapping with unique keys.
    """
    import yaml  # rarely needed, and not by everything that imports this module

    text = text_of(block)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _values(node, {}) > _MOST_VALUES:
            raise CardMetadataError(
                f"the card's metadata repeats itself by aliases beyond {_MOST_VALUES:,} values; {CARD_ADVICE}"
            )
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CardMetadataError(f"the card's metadata is not YAML ({_reason(error, text)}); {CARD_ADVICE}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CardMetadataError(f"the card's metadata is not a YAML mapping of names to values; {CARD_ADVICE}")
    if len(node.value) > len(value):
        names = [key.value for key, _ in node.value]
        twice = next(name for name in names if names.count(name) > 1)
        raise CardMetadataError(f"the card's metadata has the key {shown(twice)!r} twice; {CARD_ADVICE}")
    return value


def _values(node: Any, known: dict[int, float]) -> float:
    """Return how many values a node stands for, with those that it names by aliases; infinity if it holds itself.

    A string counts as one value for every 64 characters.
    """
    if node is None or isinstance(node.value, str):
        return 1 + (0 if node is None else len(node.value) // 64)
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is known
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def _reason(error: Exception, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return shown(problem)
    # Counted from 1, after the line of dashes; an error at the very end belongs to the last line.
    line = min(mark.line, len(text.splitlines()) - 1) + 2
    return f"{shown(problem)}, in line {line}"
