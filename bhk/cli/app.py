"""The application `bhk`: its commands, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from bhk import __version__
from bhk.cli.convert import convert
from bhk.cli.diff import diff
from bhk.cli.export import export
from bhk.cli.inspect import inspect
from bhk.cli.output import printable
from bhk.cli.verify import verify
from bhk.errors import BhkError

app = typer.Typer(
    name="bhk",
    help="Compress Segment Anything checkpoints, and any other, into small checked .bhk files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (convert, inspect, verify, export, diff):
    app.command()(command)


def _show_version(value: bool) -> None:
    if value:
        print(f"bhk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    pass


class _Interrupted(BaseException):
    """Ctrl-C or a kill. Not KeyboardInterrupt, which typer would answer for us."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def main() -> None:
    """Run the command line and exit: 0 when done, 1 with one line on stderr when not, 2 for wrong usage."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()  # leaves by SystemExit, with 2 and a message of its own for wrong usage
    except _Interrupted:
        _fail("interrupted; nothing was changed")
    except BrokenPipeError:
        # The reader of our output went away; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("not enough memory")
    except (BhkError, OSError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(1)
