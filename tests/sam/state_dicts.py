"""The true names and shapes of the published checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "state_dicts"
LISTS = sorted(FOLDER.glob("*.json"))


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a published checkpoint."""
    listed = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["tensors"]
    return {name: tuple(shape) for name, shape, *_ in listed}
