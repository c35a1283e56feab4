"""Results for several models that were compared with one original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from bhk.base.tables import Table
from bhk.evaluation.files import Record, RecordColumn
from bhk.evaluation.report import ComparedReport
from bhk.evaluation.results import AccuracyReport, FidelityReport

Found = TypeVar("Found", FidelityReport, AccuracyReport)


@dataclass(frozen=True)
class EvaluationReport(ComparedReport, Generic[Found]):
    """What `bhk.fidelity` and `bhk.accuracy` return for several models.

    >>> import bhk
    >>> settings = bhk.FidelitySettings(points=2, boxes=1, limit=1, control=False)
    >>> models = ["demo_sam.bhk", "demo_sam.safetensors"]
    >>> found = bhk.fidelity(models, ".", against="demo_sam.safetensors", settings=settings, workers=1)
    >>> [report.model.name for report in found.reports]
    ['demo_sam.bhk', 'demo_sam.safetensors']

    Attributes:
        reports: the result for each model, in the order in which they were given.
    """

    protocol: ClassVar[str] = "several models"

    reports: tuple[Found, ...]

    @property
    def hints(self) -> tuple[str, ...]:
        """The hints of all reports, each once."""
        return tuple(dict.fromkeys(hint for report in self.reports for hint in report.hints))

    def lines(self) -> Iterator[str | Table]:
        """Yield a table with a row for each model and group of masks, and what it was measured on."""
        rows = list(self.records())
        columns = [column for column in self.columns if column.is_used(rows)]
        yield Table([column.column for column in columns], [[column.cell(row) for column in columns] for row in rows])
        yield from self.notes()

    @property
    def columns(self) -> Sequence[RecordColumn]:
        """The entries of the records that a short table shows."""
        return self.reports[0].columns

    def notes(self) -> Iterator[str]:
        """Yield what the reports were measured on and with."""
        yield from self.reports[0].notes()

    def entries(self) -> dict[str, Any]:
        """Return the entries of the document: the complete entries for each model, under "reports"."""
        return self.envelope() | {"reports": [report.entries() for report in self.reports]}

    def records(self) -> Iterator[Record]:
        """Yield the rows of all reports; those that all have, which are about the original, once and last."""
        rows = Counter(tuple(record.items()) for report in self.reports for record in report.records())
        yield from map(dict, sorted(rows, key=lambda row: rows[row] == len(self.reports)))
