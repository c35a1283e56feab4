"""How tasks report their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Called with (stage, done, total), such as ("Encoding", 3_000_000, 94_000_000). Each stage has its own unit.
Progress: TypeAlias = Callable[[str, int, int], None]

# The stages that count bytes. All others count things: pictures, layers, trials.
BYTES = frozenset({"Downloading", "Encoding", "Exporting", "Layers", "Loading", "Uploading", "Verifying"})


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""
