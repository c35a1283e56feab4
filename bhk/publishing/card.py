"""The model card of a repository: README.md with its metadata, whose hand-written parts are kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from bhk.base.errors import BhkError
from bhk.publishing.facts import CardFacts
from bhk.publishing.kept import with_kept_results
from bhk.publishing.metadata import completed, merged, metadata_of
from bhk.publishing.repository import README
from bhk.publishing.template import fill

BEGIN = "<!-- bhk:begin: bhk push writes what stands from here to bhk:end; edit what is outside -->"
END = "<!-- bhk:end -->"

_LF, _CRLF = "\n", "\r\n"
_BLANK = "\ufeff \t\r\n"
_MARKER = re.compile(r"^[ \t]*<!--[ \t]*bhk:(begin|end)\b[^\r\n]*?-->[ \t]*(?=\r?$)", re.MULTILINE)


class MarkersError(BhkError):
    """The marks in a card, between which bhk writes, are no pair."""


@dataclass(frozen=True)
class _Parts:
    """A card, cut where bhk writes. The text of the whole is metadata, before, and, where there was a section, after."""

    metadata: str
    before: str
    after: str | None


def make_card(facts: CardFacts, *, existing: str | None = None, template: str | None = None) -> str:
    """Return the text of README.md.

    Of a card that there is, everything outside bhk's marks is kept as it is, and metadata that bhk does not know; a card
    without marks gets the section below its own text, so that a person's words come first, or where it has no text, a title
    that may be edited. Results that it shows of the very same file are kept if there are no new ones. The card made from a
    card is that card, to the byte.

    Args:
        facts: what it is to say.
        existing: the README.md that the repository has; None when it has none.
        template: Markdown with placeholders, in place of the bundled one.

    Raises:
        TemplateError: the template has an unknown placeholder, or lacks one.
        CardMetadataError: the existing card's metadata are no YAML mapping.
        MarkersError: the existing card's marks are no pair.
    """
    card = existing if existing and existing.strip(_BLANK) else ""
    line_end = _line_end(card)
    parts = _parts(card)
    metadata = merged(parts.metadata, facts, line_end=line_end)
    text = _unmarked(fill(with_kept_results(completed(facts, card), card), template))
    section = f"{BEGIN}\n\n{text}\n\n{END}".replace(_LF, line_end)
    if parts.after is not None:
        return metadata + parts.before + section + parts.after
    before = parts.before
    if not before.strip(_BLANK):
        start = "" if before.endswith(line_end) else line_end
        before += f"{start}# {PurePosixPath(facts.repository).name}{line_end}"
    return metadata + _with_blank_line(before, line_end) + section + line_end


def _line_end(text: str) -> str:
    """Return the line end that most lines have."""
    windows = text.count(_CRLF)
    return _CRLF if windows > text.count(_LF) - windows else _LF


def _with_blank_line(text: str, line_end: str) -> str:
    """Return `text`, ended by a blank line."""
    return text + (2 - text.endswith(line_end) - text.endswith(2 * line_end)) * line_end


def _unmarked(text: str) -> str:
    """Return a text that no mark of bhk's stands in, such as one of a template's."""
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
            f"the repository's {README} has the marks bhk:{places}; expected one bhk:begin and one bhk:end after it; mend "
            "them, or take all of them away with what stands between"
        )
    begin, end = marks
    return _Parts(metadata, text[: begin.start()], text[end.end() :])
