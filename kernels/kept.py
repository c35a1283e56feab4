"""The folder in which bhk keeps what it measured on a machine."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Return bhk's cache folder: `$XDG_CACHE_HOME/bhk`, or `~/.cache/bhk`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "bhk"
