"""The lists of true names and shapes of published checkpoints: `tests/data/state_dicts`, one file a variant."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "tests" / "data" / "state_dicts"
_SUFFIXES = (".json", ".json.gz")
LISTS = sorted(path for suffix in _SUFFIXES for path in FOLDER.glob(f"*{suffix}"))


def name_of(path: Path) -> str:
    """Return the name of the variant that a list is of."""
    return path.name.removesuffix(".gz").removesuffix(".json")


NAMES = [name_of(path) for path in LISTS]


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a list."""
    data = path.read_bytes()
    listed = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)["tensors"]
    return {name: tuple(shape) for name, shape, *_ in listed}


def shapes_of(variant: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a variant."""
    return shapes_in(next(path for path in LISTS if name_of(path) == variant))


def write(variant: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write the list of a variant."""
    text = json.dumps({"variant": variant, "tensors": [[name, list(shape)] for name, shape in shapes.items()]})
    (FOLDER / f"{variant}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
