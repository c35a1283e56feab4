"""How a command ends when it is interrupted: by Ctrl-C (SIGINT, status 130) or a kill (SIGTERM, status 143)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from bhk.base.errors import listed
from bhk.base.files import abandon_files, files_being_written, files_written
from bhk.base.threads import ThreadStartError, Worker

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3.0  # seconds that the command has for cleaning up
_ECHO = 0.5  # a terminal, make and timeout may all pass one interruption on; seconds in which signals belong together


class Interrupted(BaseException):
    """The command was interrupted. Not a KeyboardInterrupt, which typer would handle itself."""


class Interruption:
    """Waits for signals while a command runs.

    The first signal raises `Interrupted` in the main thread, which cleans up on its way out. That may take long: a call into
    torch cannot be interrupted, and threads finish the tensor that they are working on. So a thread watches, too. At a second
    signal, or when the command has had enough time, it removes half-written files itself and ends the process.

    Args:
        report: prints an error message, by writing to file descriptors, and returns nothing.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._number: int | None = None
        self._files: tuple[Path, ...] = ()
        self._over = False

    def answer(self) -> None:
        """Begin to answer signals."""
        watching, woken = socket.socketpair()
        woken.setblocking(False)
        signal.set_wakeup_fd(woken.detach(), warn_on_full_buffer=False)
        with contextlib.suppress(ThreadStartError):  # signals are answered all the same, but not at once
            Worker(partial(self._watch, watching))
        for number in _SIGNALS:
            signal.signal(number, self._raise)

    def ignore(self) -> None:
        """Ignore signals from now on: everything is done, and they must not change the status."""
        self._over = True
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @property
    def caught(self) -> bool:
        """Whether there was a signal. A library that was being imported may have swallowed the exception."""
        return self._number is not None

    def end(self) -> int:
        """Say that the command was interrupted, and return its exit status."""
        self.ignore()
        self._report(self._message())
        return 128 + (self._number or signal.SIGINT)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number, self._files = number, files_being_written()
            raise Interrupted

    def _message(self) -> str:
        written = files_written()
        # Temporary folders are gone by now.
        files = [str(path) for path in self._files if path.parent.exists() and path not in written]
        if not files and written and not files_being_written():
            were = "was" if len(written) == 1 else "were"
            return f"interrupted; {listed(written, 3)} {were} written before"
        if not files:
            return "interrupted"
        were = "was" if len(files) == 1 else "were"
        return f"interrupted; {', '.join(files)} {were} not written, and nothing half-written is left"

    def _watch(self, signals: socket.socket) -> None:
        """Wait for signals, which arrive here at once, whatever the main thread is doing."""
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they are for the main thread
        number = _next(signals)
        began = time.monotonic()
        while (left := began + _PATIENCE - time.monotonic()) > 0:
            signals.settimeout(left)
            try:
                _next(signals)
            except TimeoutError:
                break
            if time.monotonic() - began > _ECHO:
                break
        if not self._over:
            self._files = self._files or files_being_written()
            abandon_files()
            self._report(self._message())
            os._exit(128 + number)


def _next(signals: socket.socket) -> int:
    """Return the number of the next signal that ends a command."""
    while (number := signals.recv(1)[0]) not in _SIGNALS:
        pass
    return number
