"""What every task returns: a report, printed as text or saved as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from bhk.base.files import check_destination, replace_file
from bhk.base.screen import ANYWHERE, Screen
from bhk.base.tables import Table
from bhk.base.texts import printable_json


class Report:
    """Base class of the dataclasses that tasks return.

    Attributes:
        json_indent: indentation of the report as JSON text; None for a single line.
    """

    json_indent: ClassVar[int | None] = 2

    @property
    def hints(self) -> tuple[str, ...]:
        """What the reader should know beside the result, one line each: warnings, skipped pictures, what to do next."""
        return ()

    def lines(self) -> Iterator[str | Table]:
        """Yield the report as lines of text and tables."""
        raise NotImplementedError

    def text(self, screen: Screen = ANYWHERE) -> str:
        """Return the report as text that fits the screen."""
        return "\n".join(
            part.text(screen) if isinstance(part, Table) else screen.paragraph(part) for part in self.lines()
        )

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; infinity and NaN become null."""
        return plain(self)  # type: ignore[no-any-return]

    def json(self) -> str:
        """Return the document as JSON text. Characters that would steer a terminal are escaped."""
        text = json.dumps(plain(self.document()), indent=self.json_indent, allow_nan=False, ensure_ascii=False)
        return printable_json(text)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the report as a JSON file.

        Args:
            path: the file to write.
            force: overwrite an existing file.

        Raises:
            WriteError: the file cannot be written, or exists and `force` is false.
        """
        check_destination(Path(path), force=force)
        with replace_file(Path(path), force=force) as file:
            file.write(self.json().encode("utf-8", errors="backslashreplace") + b"\n")

    def __str__(self) -> str:
        return self.text()


def plain(value: object) -> Any:
    """Return dataclasses, paths and tuples as JSON values; infinity and NaN become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
