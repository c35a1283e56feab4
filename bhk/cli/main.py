"""The entry point of the command line `bhk`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line and exit; see `bhk.cli.session.run`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback until the session answers
    try:
        from bhk.base.memory import is_memory_error
        from bhk.cli.session import run
    except (MemoryError, ImportError, OSError, SystemError) as error:  # the session cannot say it
        if isinstance(error, MemoryError) or is_memory_error(error):
            sys.exit("error: not enough memory to start; end other programs")
        raise
    run()
