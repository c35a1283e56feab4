"""How the command line `bhk` begins and ends.

It answers signals before it imports anything that takes time, and needs no package for saying that one is missing.
"""

from __future__ import annotations

import sys
import warnings

from bhk.base.errors import BhkError
from bhk.base.memory import is_memory_error
from bhk.base.packages import explained_imports
from bhk.cli.interruption import Interrupted, Interruption
from bhk.cli.messages import as_option, print_error
from bhk.cli.streams import discard_output, open_streams


def main() -> None:
    """Run the command line and exit: with 0 on success, 1 on failure, 2 on wrong usage, 130 or 143 after an interruption.

    A failure is one line on stderr, and with --json also one JSON object on stdout.
    """
    interruption = Interruption(lambda message: print_error("Interrupted", message))
    try:
        interruption.answer()
        open_streams()
        status = _run(interruption)
        interruption.ignore()
    except Interrupted:
        status = interruption.end()
    sys.exit(status)


def _run(interruption: Interruption) -> int:
    try:
        with explained_imports():
            from bhk.cli.app import run
            from bhk.cli.output import silence_hub

            if not sys.warnoptions:
                warnings.simplefilter("ignore")  # torch warns about its own future
            silence_hub()
            status = run()
        sys.stdout.flush()
    except Exception as error:
        if interruption.caught:
            return interruption.end()
        if isinstance(error, OSError):
            discard_output()
        message = _message(error)
        if message is None:
            raise
        print_error(type(error).__name__, message)
        return 1
    return status


def _message(error: Exception) -> str | None:
    """Return what to say about an error; None if it is a fault of bhk."""
    if isinstance(error, BhkError):
        return error.message(as_option)
    if is_memory_error(error):
        return "not enough memory, or no more threads; end other programs, or use fewer threads"
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}"
    return None
