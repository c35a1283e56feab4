"""Tables as plain aligned text, one line per row, so that they work in pipes."""

from __future__ import annotations

from collections.abc import Sequence

from bhk.base.texts import printable


class Table(str):
    """The lines of a table. Control characters in its cells are already escaped; its only line breaks are its own."""

    __slots__ = ()


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()) -> Table:
    """Return a table as text. Not done with rich, which takes 1 s for the 594 tensors of SAM-H.

    Args:
        columns: (title, "left" or "right"), the side on which cells are aligned.
        rows: the cells; control characters in them are escaped.
        footer: a last row, below a line.
    """
    cells = [[printable(cell) for cell in row] for row in (tuple(title for title, _ in columns), *rows)]
    if footer:
        cells.append([printable(cell) for cell in footer])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [side for _, side in columns]
    lines = [
        "  ".join(
            f"{cell:{'<' if side == 'left' else '>'}{width}}"
            for cell, side, width in zip(row, sides, widths, strict=True)
        )
        for row in cells
    ]
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines.insert(1, rule)
    if footer:
        lines.insert(-1, rule)
    return Table("\n".join(line.rstrip() for line in lines))
