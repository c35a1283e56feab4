"""The standard streams of a command: any text can be printed to them, and nobody has to read it."""

from __future__ import annotations

import contextlib
import io
import locale
import os
import sys
from typing import TextIO

from bhk.base.screen import SPELLED, Screen


class _Pipe(io.FileIO):
    """An output whose reader may leave when it has seen enough, as `head` does: what comes later is dropped."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return len(data)


def open_streams() -> None:
    """Make every text printable: closed streams drop it, and characters that cannot be shown are spelled in others."""
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)


def _opened(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed
        return open(os.devnull, "w", errors=SPELLED)
    if not isinstance(stream, io.TextIOWrapper):  # a program's own
        return stream
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):  # the console of Windows
        stream.reconfigure(errors=SPELLED)
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),  # type: ignore[type-var]
        _encoding(stream),
        SPELLED,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def _encoding(stream: TextIO) -> str:
    """Return a stream's encoding; in the C locale, for which Python assumes UTF-8, ASCII unless it was asked for more."""
    chosen = os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8")
    if not chosen and locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
        return "ascii"
    return stream.encoding


def discard_output() -> None:
    """Drop what could not be written to stdout, or Python would complain about it again when it ends."""
    with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError):
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def stdout_screen() -> Screen:
    """Return what stdout can show. Lines have the width that COLUMNS says, or that of the terminal; in a pipe, any."""
    return Screen(_width(), sys.stdout.encoding or "ascii")


def _width() -> int | None:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):  # no terminal
        return None
