"""Where text is shown: how wide it may be, and which characters can be shown."""

from __future__ import annotations

import codecs
import textwrap
from dataclasses import dataclass

from bhk.base.texts import printable

# What stands for the characters of tables and messages where the encoding lacks them.
_ASCII = {"─": "-", "×": "x", "…": "...", "–": "-", "∞": "inf", "≥": ">=", "²": "^2", "·": "|"}


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that an encoding lacks, by others that look like them or by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in lacking), error.end


SPELLED = "bhk.spelled"  # name of an error handler for streams and `str.encode`
codecs.register_error(SPELLED, _spell)


@dataclass(frozen=True)
class Screen:
    """Where a report is shown.

    Attributes:
        width: columns that a line may have; None for lines of any length, as in a pipe.
        encoding: the characters that can be shown are those of this encoding.
    """

    width: int | None = None
    encoding: str = "utf-8"

    def shown(self, text: str) -> str:
        """Return `text` as this screen can show it: control characters are escaped, and others replaced if need be."""
        return printable(text).encode(self.encoding, SPELLED).decode(self.encoding)

    def paragraph(self, text: str) -> str:
        """Return a line of text as lines that fit; those that follow the first are indented."""
        line = self.shown(text)
        if self.width is None or len(line) <= self.width:
            return line
        return textwrap.fill(line, self.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

    def shortened(self, text: str, width: int) -> str:
        """Return a name of at most `width` columns; a longer one loses its middle, and keeps more of its end."""
        if len(text) <= width:
            return text
        gap = self.shown("…")
        end = max((width - len(gap)) * 2 // 3, 1)
        return text[: max(width - len(gap) - end, 0)] + gap + text[-end:]


ANYWHERE = Screen()
