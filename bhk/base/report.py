"""What every task returns: a report that prints as text and is saved as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bhk.base.files import replace_file
from bhk.base.texts import printable


class Report:
    """Base of the dataclasses that tasks return."""

    def lines(self) -> Iterator[str]:
        """Yield the report as text, in lines or whole tables."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; infinity and NaN become null."""
        return plain(self)  # type: ignore[no-any-return]

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the report as a JSON file.

        Args:
            path: the file to write.
            force: replace it if it exists.

        Raises:
            WriteError: it exists and `force` is false, or it cannot be written.
        """
        text = json.dumps(self.document(), indent=2, allow_nan=False, ensure_ascii=False)
        with replace_file(Path(path), force=force) as file:
            file.write(text.encode("utf-8", errors="backslashreplace") + b"\n")

    def __str__(self) -> str:
        return "\n".join(printable(line) for part in self.lines() for line in part.split("\n"))


def plain(value: object) -> Any:
    """Return dataclasses, paths and tuples as JSON values; infinity and NaN as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
