"""Tables as plain aligned text, one line per row, so that they work in pipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bhk.base.screen import ANYWHERE, Screen

_GAP = 2  # spaces between columns


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        side: where its cells are aligned.
        rank: columns of the highest rank are left out first where the screen is too narrow; those of rank 0 never are.
        least: where the screen is too narrow, its cells lose their middle, but keep this many characters as long as other
            columns can be left out. None: they are never shortened.
        meaning: an explanation of the title, shown below the table; empty for none.
    """

    title: str
    side: Literal["left", "right"] = "right"
    rank: int = 0
    least: int | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: its columns.
        rows: the cells of each row.
        footer: a last row, below a line; empty for none.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()

    def text(self, screen: Screen = ANYWHERE) -> str:
        """Return the table as text. Not done with rich, which takes 1 s for the 594 tensors of SAM-H."""
        cells = [
            [screen.shown(cell) for cell in row]
            for row in (tuple(column.title for column in self.columns), *self.rows, *filter(None, (self.footer,)))
        ]
        full = [max(map(len, column)) for column in zip(*cells, strict=True)]
        kept, widths = self._fitted(full, screen.width)
        lines = [self._line([row[at] for at in kept], kept, widths, screen) for row in cells]
        rule = screen.shown("─") * _total(widths)
        lines.insert(1, rule)
        if self.footer:
            lines.insert(-1, rule)
        return "\n".join([*(line.rstrip() for line in lines), *map(screen.paragraph, self._notes(kept, screen.width))])

    def _notes(self, kept: Sequence[int], width: int | None) -> Iterator[str]:
        """Yield what the titles mean, and the titles that were left out."""
        meanings = [f"{self.columns[at].title}: {self.columns[at].meaning}" for at in kept if self.columns[at].meaning]
        if meanings:
            yield "; ".join(dict.fromkeys(meanings))
        left_out = [column.title for at, column in enumerate(self.columns) if at not in kept]
        if left_out:
            yield f"left out to fit {width} columns: {', '.join(dict.fromkeys(left_out))}"

    def _fitted(self, full: Sequence[int], limit: int | None) -> tuple[list[int], list[int]]:
        """Return the columns that fit into `limit`, and their widths, given the widths that they would like to have."""
        kept = list(range(len(self.columns)))
        if limit is None:
            return kept, list(full)
        least = [min(width, column.least or width) for column, width in zip(self.columns, full, strict=True)]
        while _total(least[at] for at in kept) > limit:
            last = max(kept, key=lambda at: (self.columns[at].rank, at))
            if not self.columns[last].rank:
                break
            kept.remove(last)
        spare = limit - _total(least[at] for at in kept)
        widths = [least[at] for at in kept]
        for place, at in enumerate(kept):
            if self.columns[at].least:
                wider = max(min(full[at], widths[place] + spare), len(self.columns[at].title))
                spare -= wider - widths[place]
                widths[place] = wider
        return kept, widths

    def _line(self, row: Sequence[str], kept: Sequence[int], widths: Sequence[int], screen: Screen) -> str:
        return (" " * _GAP).join(
            f"{screen.shortened(cell, width):{'<' if self.columns[at].side == 'left' else '>'}{width}}"
            for cell, at, width in zip(row, kept, widths, strict=True)
        )


def _total(widths: Iterable[int]) -> int:
    every = list(widths)
    return sum(every) + _GAP * (len(every) - 1)
