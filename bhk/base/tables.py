"""Tables as plain aligned text, one line a row, so that they pipe well."""

from __future__ import annotations

from collections.abc import Sequence

from bhk.base.texts import printable


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()) -> str:
    """Return a table as text. Not by rich, which takes 1 s to lay out the 594 tensors of a SAM-H.

    Args:
        columns: (title, "left" or "right").
        rows: cells; control characters in them are escaped.
        footer: a last row, set apart.
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
    return "\n".join(line.rstrip() for line in lines)
