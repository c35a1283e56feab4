"""Markdown from texts that come from files, escaped so that nothing in them acts as Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bhk.base.errors import shown

_HARMLESS = re.compile(r"(?:[^\W_]|[ ,.()/+-])*")


def code(text: object, limit: int = 120) -> str:
    """Return `text` as inline code, on one line of at most `limit` characters."""
    plain = shown(text, limit)
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    space = " " if not plain.strip() or plain[0] in "` " or plain[-1] in "` " else ""
    return f"{fence}{space}{plain}{space}{fence}"


def plain(text: str, limit: int = 120) -> str:
    """Return a name as it is if it is made of letters, digits and marks that mean nothing in Markdown, else as code."""
    harmless = len(text) <= limit and _HARMLESS.fullmatch(text) and "www." not in text.lower()
    return text if harmless else code(text, limit)


def block(language: str, *lines: str) -> str:
    """Return a block of code. No line may begin with a fence."""
    return "\n".join((f"```{language}", *lines, "```"))


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    Args:
        columns: (title, "left" or "right").
        rows: cells.
    """
    rules = ["---" if side == "left" else "--:" for _, side in columns]
    lines = [_line([title for title, _ in columns]), "|" + "|".join(rules) + "|", *map(_line, rows)]
    return "\n".join(lines)


def repository_link(repository: str) -> str:
    """Return a link to a repository on the Hub."""
    return f"[{repository}](https://huggingface.co/{repository})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
