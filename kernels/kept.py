"""The folder in which bhk keeps what it measured on a machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO, cast


def folder() -> Path:
    """Return bhk's cache folder: `$XDG_CACHE_HOME/bhk`, or `~/.cache/bhk`. Without a home, nothing can be kept in it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "bhk"
    try:
        return Path.home() / ".cache" / "bhk"
    except RuntimeError:
        return Path(os.devnull) / "bhk"


def open_table(path: Path, mode: str = "r") -> TextIO:
    """Open a table in that folder, to read it, or to append to it a line at a time with mode "a".

    Raises:
        OSError: it cannot be opened, or is not a regular file: opening a pipe would wait for its other end.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    return cast("TextIO", open(path, mode, newline="", encoding="utf-8", buffering=1))
