"""The command line `bhk`: its commands, and how they end."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer

from bhk.base.errors import BhkError
from bhk.base.packages import explained_imports
from bhk.base.texts import printable
from bhk.cli.compare import compare
from bhk.cli.convert import convert
from bhk.cli.diff import diff
from bhk.cli.eval import evaluate
from bhk.cli.export import export
from bhk.cli.inspect import inspect
from bhk.cli.models import models
from bhk.cli.options import as_option
from bhk.cli.output import silence_hub
from bhk.cli.pull import pull
from bhk.cli.push import push
from bhk.cli.report import report
from bhk.cli.segment import segment
from bhk.cli.streams import open_streams
from bhk.cli.verify import verify
from bhk.version import __version__

_EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    convert: (
        "bhk convert sam_vit_b_01ec64.pth",
        "bhk convert facebook/sam-vit-base -o sam_b.bhk --preset small",
    ),
    inspect: ("bhk inspect sam_b.bhk --by role", "bhk inspect sam_b.bhk --sort snr --top 10"),
    verify: ("bhk verify sam_b.bhk", "bhk verify sam_b.bhk --against sam_vit_b_01ec64.pth"),
    export: ("bhk export sam_b.bhk -o sam_b.pth", "bhk export sam_b.bhk -o ComfyUI/models/sams/"),
    diff: ("bhk diff sam_vit_b_01ec64.pth sam_b.bhk",),
    segment: (
        "bhk segment sam_b.bhk photo.jpg --point 500,375 -o masks.png",
        "bhk segment sam_b.bhk photo.jpg --everything --json",
    ),
    evaluate: (
        "bhk eval sam_b.bhk --images photos/ --against sam_vit_b_01ec64.pth",
        "bhk eval sam_b.bhk --images val2017/ --annotations instances_val2017.json --limit 200",
    ),
    report: ("bhk report sam_b.bhk --against sam_vit_b_01ec64.pth --images photos/ -o report.html",),
    compare: ("bhk compare sam_vit_b_01ec64.pth --presets balanced,small --images photos/ --plot presets.svg",),
    push: ("bhk push sam_b.bhk me/sam-b-bhk --dry-run", "bhk push sam_b.bhk me/sam-b-bhk --eval results.json"),
    pull: ("bhk pull me/sam-b-bhk", "bhk pull me/sam-b-bhk -o models/sam_b.bhk"),
    models: ("bhk models",),
}

app = typer.Typer(
    name="bhk",
    help="Compress Segment Anything checkpoints, and any others, into small, checked .bhk files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command, examples in _EXAMPLES.items():
    name = "eval" if command is evaluate else command.__name__
    app.command(name, epilog="\n\n".join(("Examples:" if len(examples) > 1 else "Example:", *examples)))(command)


def _show_version(value: bool) -> None:
    if value:
        print(f"bhk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_INTERRUPTED = "interrupted; no file was left half-written"


class _Interrupted(BaseException):
    """Ctrl-C or a kill. Not a KeyboardInterrupt, which typer would handle itself."""


class _Signals:
    """Raises `_Interrupted` on a signal, and remembers it, because a library that is being imported may swallow it.

    A signal within a second of the last one belongs to it; it must not disturb the cleaning up.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    @property
    def caught(self) -> bool:
        """Whether there was a signal."""
        return self._last > -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > 1:
            raise _Interrupted


def main() -> None:
    """Run the command line and exit: with 0 on success, 1 and one line on stderr on failure, 2 on wrong usage."""
    signals = _Signals()
    try:
        _answer_signals(signals)
        open_streams()
        _silence_libraries()
        status = _run(signals)
        _answer_signals(signal.SIG_IGN)  # everything is done; a signal must not change the status now
    except _Interrupted:
        _answer_signals(signal.SIG_IGN)
        status = _fail(_INTERRUPTED)
    sys.exit(status)


def _answer_signals(handler: _Signals | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _silence_libraries() -> None:
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # torch warns about its own future
    silence_hub()


def _run(signals: _Signals) -> int:
    try:
        status = _exit_status()
        sys.stdout.flush()
        return status
    except BhkError as error:
        return _fail(error.message(as_option))
    except OSError as error:
        _discard_output()
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except Exception as error:
        if signals.caught:
            return _fail(_INTERRUPTED)
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # torch's is a RuntimeError
            return _fail("not enough memory")
        raise


def _exit_status() -> int:
    """Run the application. typer exits by SystemExit; on wrong usage, with 2 and its own message."""
    try:
        with explained_imports():
            app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _discard_output() -> None:
    """Drop what could not be written to stdout, or Python would complain about it again when it ends."""
    with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError):
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(message: str) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 1
