"""The entry point of the command line `bhk`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit; see `bhk.cli.session.run`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback until the session answers
    from bhk.cli.session import run

    run()
