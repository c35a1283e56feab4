"""What the commands print: data on stdout, progress and hints on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, overload

from bhk.base import tables
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.report import plain as plain
from bhk.base.texts import number as number
from bhk.base.texts import printable as printable
from bhk.base.texts import scientific as scientific
from bhk.base.texts import size as size

_COUNTED = 10_000  # from here on, "47 %" tells more than "47,000,000/100,000,000"


@dataclasses.dataclass(frozen=True)
class Bar:
    """A progress bar: a `bhk.base.progress.Progress`."""

    title: str
    _update: Callable[..., None]

    @overload
    def __call__(self, stage: str, done: int, total: int, /) -> None: ...

    @overload
    def __call__(self, done: int, total: int, /) -> None: ...

    def __call__(self, *args: Any) -> None:
        """Show how far a stage is."""
        stage, done, total = args if len(args) == 3 else (self.title, *args)
        amount = f"{done}/{total}" if total < _COUNTED else f"{done / total:.0%}"
        self._update(description=stage, completed=done, total=total, amount=amount)

    @property
    def part(self) -> Progress:
        """The bar itself, until every task calls it with its stage."""
        return self

    stage = part


class Output:
    """How one command speaks.

    Args:
        as_json: print one JSON document instead of text.
        quiet: print nothing but errors (and the JSON document).

    Attributes:
        current: that of the command that runs.
    """

    current: ClassVar[Output | None] = None

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        Output.current = self
        self.as_json = as_json
        self._silent = quiet or as_json
        if self._silent:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # huggingface_hub draws bars of its own

    def line(self, text: str) -> None:
        """Print a line of the result; control characters in it are escaped."""
        if not self._silent:
            print(printable(text))

    def hint(self, text: str) -> None:
        """Print a line beside the result, for a person to read; control characters in it are escaped."""
        if not self._silent:
            print(printable(text), file=sys.stderr)

    def report(self, report: Report) -> None:
        """Print what a task returned: as text, or as one JSON document."""
        if self.as_json:
            self.document(report.document(), indent=report.json_indent)
        elif not self._silent:
            print(report)

    def document(self, value: object, *, indent: int | None = 2) -> None:
        """Print the result as JSON; without an indent, on one line."""
        if self.as_json:
            text = json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)
            try:
                text.encode(sys.stdout.encoding or "ascii")
            except UnicodeEncodeError:  # another encoding, or the name of a file that is no Unicode
                text = json.dumps(plain(value), indent=indent, allow_nan=False)
            print(text)

    def table(
        self, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()
    ) -> None:
        """Print a table; see `bhk.base.tables.table`."""
        if self._silent:
            return
        print(tables.table(columns, rows, footer))

    @contextlib.contextmanager
    def progress(self, title: str = "", *, unit_bytes: bool = True) -> Iterator[Bar | None]:
        """Yield a bar to pass on as a task's `progress`, or None without a terminal to draw it on."""
        if self._silent or not sys.stderr.isatty():
            yield None
            return
        from rich import progress as rich_progress
        from rich.console import Console

        columns = (
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(),
            rich_progress.TextColumn("{task.fields[amount]}"),
            rich_progress.TimeRemainingColumn(),
        )
        with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None, amount="")
            yield Bar(title, functools.partial(bar.update, task))


class Waits(logging.Handler):
    """Shows as hints what huggingface_hub says before it waits, which may take minutes, and nothing else that it says."""

    def install(self) -> None:
        """Take the place of the library's own handler."""
        logger = logging.getLogger("huggingface_hub.utils._http")
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message if it is about a wait."""
        text = record.getMessage()
        if text.startswith(("Retrying in ", "Rate limited")) and Output.current is not None:
            Output.current.hint(f"waiting for the Hub: {text[0].lower()}{text[1:].rstrip('.')}")
