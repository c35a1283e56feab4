"""The model card of a repository, README.md. Its hand-written parts are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from bhk.base.errors import BhkError
from bhk.hub.card_metadata import metadata_of
from bhk.publishing.content import CardContent
from bhk.publishing.evaluations import with_earlier_results
from bhk.publishing.metadata import completed, merged
from bhk.publishing.repository import README
from bhk.publishing.template import fill

BEGIN = "<!-- bhk:begin: `bhk push` rewrites everything from here to bhk:end; edit the text outside -->"
END = "<!-- bhk:end -->"

_LF, _CRLF = "\n", "\r\n"
_BLANK = "\ufeff \t\r\n"
_MARKER = re.compile(r"^[ \t]*<!--[ \t]*bhk:(begin|end)\b[^\r\n]*?-->[ \t]*(?=\r?$)", re.MULTILINE)


class MarkersError(BhkError):
    """The marks in a card between which bhk writes do not form a pair."""


@dataclass(frozen=True)
class _Parts:
    """A card, split around the section of bhk: metadata, text before it, and text after it (None without a section)."""

    metadata: str
    before: str
    after: str | None


def make_card(content: CardContent, *, existing: str | None = None, template: str | None = None) -> str:
    """Return the text of README.md.

    Everything outside bhk's marks in an existing card is kept, and so is metadata that bhk does not know. In a card without
    marks the section of bhk goes below the text, so that hand-written words come first; a card without text gets a title,
    which may be edited. Results on the card about the same file are kept if there are no new ones. Making a card from its own
    text gives the same text, to the byte.

    Args:
        content: what the card says.
        existing: the repository's README.md; None if it has none.
        template: Markdown with placeholders, in place of the built-in one.

    Raises:
        TemplateError: the template has an unknown placeholder, or lacks a required one.
        CardMetadataError: the existing card's metadata is not a YAML mapping.
        MarkersError: the existing card's marks do not form a pair.
    """
    card = existing if existing and existing.strip(_BLANK) else ""
    line_end = _line_end(card)
    parts = _parts(card)
    metadata = merged(parts.metadata, content, line_end=line_end)
    text = _unmarked(fill(with_earlier_results(completed(content, card), card), template))
    section = f"{BEGIN}\n\n{text}\n\n{END}".replace(_LF, line_end)
    if parts.after is not None:
        return metadata + parts.before + section + parts.after
    before = parts.before
    if not before.strip(_BLANK):
        start = "" if before.endswith(line_end) else line_end
        before += f"{start}# {PurePosixPath(content.repository).name}{line_end}"
    return metadata + _with_blank_line(before, line_end) + section + line_end


def _line_end(text: str) -> str:
    """Return the line end of most lines."""
    windows = text.count(_CRLF)
    return _CRLF if windows > text.count(_LF) - windows else _LF


def _with_blank_line(text: str, line_end: str) -> str:
    """Return `text` with a blank line at its end."""
    return text + (2 - text.endswith(line_end) - text.endswith(2 * line_end)) * line_end


def _unmarked(text: str) -> str:
    """Return `text` without marks of bhk, which a template may contain."""
    return _MARKER.sub("", text).strip()


def _parts(card: str) -> _Parts:
    metadata, text = metadata_of(card)
    marks = list(_MARKER.finditer(text))
    if not marks:
        return _Parts(metadata, text, None)
    if [mark[1] for mark in marks] != ["begin", "end"]:
        first = len(metadata.splitlines()) + 1
        places = ", ".join(f"{mark[1]} in line {first + text.count(_LF, 0, mark.start())}" for mark in marks)
        raise MarkersError(
            f"the repository's {README} has the marks bhk:{places}; expected one bhk:begin and then one bhk:end; correct "
            "them, or remove all of them and the text between them"
        )
    begin, end = marks
    return _Parts(metadata, text[: begin.start()], text[end.end() :])
