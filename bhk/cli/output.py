"""What the commands print: results on stdout, progress and hints on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from bhk.base.errors import formed
from bhk.base.files import WriteError
from bhk.base.progress import BYTES, Progress
from bhk.base.report import Report
from bhk.base.texts import printable, redact
from bhk.cli.messages import as_option, encodable
from bhk.cli.streams import stdout_screen

MB = 1_000_000
MOST_HINTS = 50  # lines
_BETWEEN = "Working"  # shown before a stage has begun, and after one has ended


class Output:
    """How one command prints its result.

    Args:
        as_json: print one JSON document instead of text.
        quiet: print nothing but errors and the JSON document.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self._as_json = as_json
        self._silent = quiet or as_json
        if self._silent:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # huggingface_hub has its own bars
        WaitingHints(self).install()

    def report(self, report: Report) -> None:
        """Print what a task returned, as text or as one JSON document, and then its hints."""
        if self._as_json:
            for part in report.json_parts():
                sys.stdout.write(encodable(part))
            print()
        elif not self._silent:
            print(report.text(stdout_screen()))
        hints = report.hints
        for hint in hints[:MOST_HINTS]:
            self.hint(hint)
        if len(hints) > MOST_HINTS:
            self.hint(f"and {len(hints) - MOST_HINTS:,} more; --json lists all")

    def save(self, report: Report, out: Path | None, *, force: bool) -> None:
        """Write a report that has been printed, so that it is not lost if it cannot be written; None writes nothing."""
        if out is None:
            return
        try:
            report.save(out, force=force)
        except WriteError as error:
            self.require(False, error.message(as_option))
        self.hint(f"wrote {out}")

    def require(self, met: bool, message: str) -> None:
        """End with status 1 and a line on stderr unless a condition is met. The result has been printed already."""
        if not met:
            sys.stdout.flush()
            print(f"error: {redact(printable(message))}", file=sys.stderr)
            raise typer.Exit(1)

    def hint(self, text: str) -> None:
        """Print a line that is not part of the result; control characters in it are escaped."""
        if not self._silent:
            print(redact(printable(formed(text, as_option))), file=sys.stderr)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Progress | None]:
        """Yield a callback that draws a progress bar; None without a terminal to draw on."""
        if self._silent or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            current, bar = _BETWEEN, bars.add_task(_BETWEEN, total=None, amount="")

            def show(stage: str, done: int, total: int) -> None:
                nonlocal current, bar
                stage = printable(stage)  # it may name a file
                ended = done >= total  # what comes next is not known yet
                amount = f"{done / MB:,.0f}/{total / MB:,.0f} MB" if stage in BYTES else f"{done:,}/{total:,}"
                if current != (_BETWEEN if ended else stage):  # a new bar, because the remaining time is of one stage
                    bars.remove_task(bar)
                    current = _BETWEEN if ended else stage
                    bar = bars.add_task(current, total=None if ended else total, amount="")
                if not ended:
                    bars.update(bar, completed=done, total=total, amount=amount)

            yield show


class WaitingHints(logging.Handler):
    """Shows huggingface_hub's messages about waiting, which may take minutes, as hints, and hides its other messages.

    Args:
        output: where to show them.
    """

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def install(self) -> None:
        """Replace the handler of huggingface_hub, if `silence_hub` took its messages away from the root logger."""
        if not _hub_logger().propagate:
            _hub_logger().handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message if it is about waiting."""
        text = record.getMessage()
        if text.startswith(("Retrying in ", "Rate limited")):
            self._output.hint(f"waiting for the Hub: {text[0].lower()}{text[1:].rstrip('.')}")


def silence_hub() -> None:
    """Hide what huggingface_hub logs, unless the user chose a level; bhk reports final failures itself, in one line."""
    if "HF_HUB_VERBOSITY" not in os.environ:
        os.environ["HF_HUB_VERBOSITY"] = "error"
        _hub_logger().setLevel(logging.WARNING)
        _hub_logger().propagate = False


def _hub_logger() -> logging.Logger:
    return logging.getLogger("huggingface_hub.utils._http")
