"""The report that evaluations have in common: as text, JSON, CSV and LaTeX."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bhk.base.files import replace_file
from bhk.base.report import Report, plain, streamed_json
from bhk.evaluation.files import Record, RecordColumn, check_results_file, csv_text, latex_text
from bhk.version import __version__

FORMAT = "bhk-evaluation"
VERSION = 1  # raised when a reader of this version would misread the document
GENERATOR = f"bhk {__version__}"


class ComparedReport(Report):
    """A report that compares models.

    Attributes:
        protocol: what was compared and how: "fidelity", "accuracy", …
    """

    protocol: ClassVar[str]

    @property
    def columns(self) -> Sequence[RecordColumn]:
        """The entries of the records that a short table shows."""
        raise NotImplementedError

    def records(self) -> Iterator[Record]:
        """Yield the rows of the report as a table for other programs, numbers in full precision."""
        raise NotImplementedError

    def notes(self) -> Iterator[str]:
        """Yield what the report was measured on and with, for comments in a LaTeX file."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the report as JSON, or its records as CSV or LaTeX, by the suffix of `path`: .json, .csv or .tex.

        Args:
            path: the file to write.
            force: overwrite an existing file.

        Raises:
            WriteError: the suffix is another one; the file cannot be written, or exists and `force` is false.
        """
        target = Path(path)
        check_results_file(target, force=force)
        kind = target.suffix.lower()
        parts: Iterable[str]
        if kind == ".json":
            parts = itertools.chain(self.json_parts(), "\n")
        elif kind == ".csv":
            parts = [csv_text(self.records())]
        else:
            parts = [latex_text(list(self.records()), self.columns, list(self.notes()))]
        with replace_file(target, force=force) as file:
            for part in parts:
                file.write(part.encode("utf-8", errors="backslashreplace"))

    def document(self) -> dict[str, Any]:
        """Return the result as JSON values.

        Every document has `format` ("bhk-evaluation"), `version`, `generator` (bhk and its version) and `protocol`. The
        other keys are the report's fields. An interval is {"value", "low", "high"}; values that are not finite are null.
        """
        return plain(self.entries())  # type: ignore[no-any-return]

    def json_parts(self) -> Iterator[str]:
        """Yield the JSON text in parts; results of pictures are only read from the work folder when it comes to them."""
        yield from streamed_json(self.entries(), self.json_indent)

    def entries(self) -> dict[str, Any]:
        """Return the entries of the document, as they are."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # of its subclasses, which are dataclasses
        return self.envelope() | {field.name: getattr(self, field.name) for field in fields}

    def envelope(self) -> dict[str, Any]:
        """Return the entries that every document begins with."""
        return {"format": FORMAT, "version": VERSION, "generator": GENERATOR, "protocol": self.protocol}
