"""The application `bhk`: its commands, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated

import click
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


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and exit: 0 when done, 1 with one line on stderr when not, 2 for wrong usage."""
    signal.signal(signal.SIGTERM, _interrupt)  # a kill cleans up as Ctrl-C does
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; nothing was changed")
    except BrokenPipeError:
        # The reader of our output went away; keep Python from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("not enough memory")
    except (BhkError, OSError) as error:
        return _fail(str(error))
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print(f"error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return 1
