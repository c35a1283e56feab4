"""What every task returns: a report, printed as text or saved as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Collection, Iterator
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
        return "".join(self.json_parts())

    def json_parts(self) -> Iterator[str]:
        """Yield the JSON text in parts, so that a long document need not be in memory as a whole."""
        text = json.dumps(plain(self.document()), indent=self.json_indent, allow_nan=False, ensure_ascii=False)
        yield printable_json(text)

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
            for part in self.json_parts():
                file.write(part.encode("utf-8", errors="backslashreplace"))
            file.write(b"\n")

    def __str__(self) -> str:
        return self.text()


class _OneByOne(list[Any]):
    """A list for `json.JSONEncoder.iterencode`, whose items are made when it comes to them."""

    def __init__(self, items: Collection[object]) -> None:
        super().__init__()
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return map(plain, self._items)


def streamed_json(value: object, indent: int | None) -> Iterator[str]:
    """Yield `plain(value)` as JSON text in parts. The items of collections that are no lists or tuples are made one by one."""
    encoder = json.JSONEncoder(indent=indent, allow_nan=False, ensure_ascii=False)
    yield from map(printable_json, encoder.iterencode(plain(value, collection=_OneByOne)))


def plain(value: object, collection: Callable[[Collection[object]], list[Any]] | None = None) -> Any:
    """Return dataclasses, paths and collections as JSON values; infinity and NaN become null.

    Args:
        value: the value.
        collection: makes lists of collections that are neither lists nor tuples.
    """
    if isinstance(value, Collection) and not isinstance(value, (str, bytes, dict, list, tuple)):
        return [plain(item) for item in value] if collection is None else collection(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), collection) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item, collection) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, collection) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
