"""Results as files: JSON with everything, or a row for each figure as CSV or LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from bhk.base.errors import shown
from bhk.base.files import WriteError, check_destination
from bhk.base.tables import Column
from bhk.base.texts import number, printable

SUFFIXES = (".json", ".csv", ".tex")

Record: TypeAlias = dict[str, str | int | float | None]

_ESCAPED = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "…": r"\dots{}",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "–": "--",
}


@dataclass(frozen=True)
class RecordColumn:
    """A column of a table of records.

    Attributes:
        key: the entry of a record that it shows, followed by its interval if the record has `key_low` and `key_high`.
        title: its heading.
        digits: decimals of numbers.
        percent: whether it shows a share in percent.
        side, rank, least: how a table on a screen shows it; see `bhk.base.tables.Column`.
    """

    key: str
    title: str
    digits: int = 4
    percent: bool = False
    side: Literal["left", "right"] = "right"
    rank: int = 0
    least: int | None = None

    @property
    def column(self) -> Column:
        """The column of a table on a screen."""
        return Column(self.title, self.side, rank=self.rank, least=self.least)

    def cell(self, record: Record) -> str:
        """Return a cell as text: a name, a number, or a number and its interval, such as "0.98 [0.97, 0.99]"."""
        value, low, high = (record.get(self.key + end) for end in ("", "_low", "_high"))
        if isinstance(value, str):
            return shown(value)
        interval = "" if low is None or high is None else f" [{self._number(low)}, {self._number(high)}]"
        return self._number(value) + interval

    def _number(self, value: str | int | float | None) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return number(None if value is None else (100 if self.percent else 1) * float(value), self.digits)

    def is_used(self, records: Iterable[Record]) -> bool:
        """Return whether a record has a value for it."""
        return any(record.get(self.key) is not None for record in records)


def check_results_file(path: Path, *, force: bool, sources: tuple[Path, ...] = ()) -> None:
    """Check before any work that results can be written to `path`.

    Raises:
        WriteError: its suffix is not one of `SUFFIXES`, it exists and `force` is false, or it is one of `sources`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise WriteError(f"{path}: results are written as {', '.join(SUFFIXES)}; choose one of these suffixes")
    check_destination(path, force=force, sources=sources)


def csv_text(records: Iterable[Record]) -> str:
    """Return records as CSV, with a column for each key that one of them has; unknown values are empty."""
    rows = [{key: _csv_cell(value) for key, value in record.items()} for record in records]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _csv_cell(value: str | int | float | None) -> str | int | float:
    """Return a cell. A name that a spreadsheet would take for a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(("=", "+", "-", "@")) else "") + printable(value)


def latex_text(records: Sequence[Record], columns: Sequence[RecordColumn], notes: Sequence[str]) -> str:
    r"""Return records as a LaTeX table for the package booktabs.

    Args:
        records: the rows.
        columns: its columns; those without any value are left out.
        notes: lines for comments above it.
    """
    used = [column for column in columns if column.is_used(records)]
    rows = [" & ".join(_latex_cell(column, record) for column in used) + r" \\" for record in records]
    return "\n".join(
        (
            *(f"% {shown(note, 500)}" for note in (*notes, r"needs \usepackage{booktabs}")),
            rf"\begin{{tabular}}{{{''.join(column.side[0] for column in used)}}}",
            r"\toprule",
            " & ".join(_escaped(column.title) for column in used) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        )
    )


def _latex_cell(column: RecordColumn, record: Record) -> str:
    text = _escaped(column.cell(record))
    return text if column.side == "left" or text == "--" else text.replace("-", "$-$")


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(char, char) for char in text)
