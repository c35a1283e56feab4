"""How the command line `bhk` begins and ends.

It answers signals before it imports anything that takes time, and needs no package for saying that one is missing.
"""

from __future__ import annotations

import os
import sys
import warnings

from bhk.base.errors import BhkError
from bhk.base.memory import NOT_ENOUGH, is_memory_error
from bhk.base.packages import explained_imports
from bhk.cli.interruption import Interrupted, Interruption
from bhk.cli.messages import as_option, print_error
from bhk.cli.streams import discard_output, open_streams


def run() -> None:
    """Run the command line and exit: with 0 on success, 1 on failure, 2 on wrong usage, 130 or 143 after an interruption.

    A failure is one line on stderr, and with --json also one JSON object on stdout.
    """
    interruption = Interruption(lambda message: print_error("Interrupted", message))
    sys.unraisablehook = _tell_unraisable
    try:
        interruption.answer()
        open_streams()
        status = _command(interruption)
        interruption.ignore()
    except Interrupted:
        status = interruption.end()
    sys.exit(status)


def _command(interruption: Interruption) -> int:
    try:
        with explained_imports():
            from bhk.cli.app import run as run_command
            from bhk.cli.output import silence_hub

            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # torch warns about its own future
            silence_hub()
            status = run_command()
        sys.stdout.flush()
    except Exception as error:
        if interruption.caught:
            return interruption.end()
        if isinstance(error, OSError):
            discard_output()
        kind, message = type(error).__name__, _message(error)
        if message is None:
            raise
    else:
        return status
    _tell(kind, message)  # what the error held is free again
    return 1


def _tell(kind: str, message: str) -> None:
    """Print an error; without memory even for that, only that there is none."""
    try:
        print_error(kind, message)
    except MemoryError:
        os.write(2, f"error: {NOT_ENOUGH}\n".encode())


def _tell_unraisable(found: sys.UnraisableHookArgs) -> None:
    """Tell of an error where nobody can catch it, such as in a finalizer, unless the system or a signal is the cause.

    The command is told of those in another way: a thread watches for signals, and what asks for memory and files again, or
    has done so before, fails as well.
    """
    error = found.exc_value
    if not (isinstance(error, Interrupted | MemoryError | OSError) or (error is not None and is_memory_error(error))):
        sys.__unraisablehook__(found)


def _message(error: Exception) -> str | None:
    """Return what to say about an error; None if it is a fault of bhk."""
    if isinstance(error, BhkError):
        return error.message(as_option)
    if is_memory_error(error):
        return NOT_ENOUGH
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}"
    return None
