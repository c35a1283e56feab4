"""Small checkpoints to convert."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

PUBLISHED = sorted((Path(__file__).parent.parent / "data" / "state_dicts").glob("*.json"))


def draw(shapes: Mapping[str, Sequence[int]], *, scale: float = 0.05, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return float32 tensors of independent Gaussian weights."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=generator) * scale for name, shape in shapes.items()}


def small() -> dict[str, torch.Tensor]:
    """Return two coded and one exact tensor, the names in no natural order."""
    return draw({"blocks.10.weight": (48, 40), "blocks.2.weight": (40, 31), "blocks.2.bias": (48,)})


def published(path: Path, largest: int) -> tuple[dict[str, torch.Tensor], str | None]:
    """Return tensors like those of a published checkpoint, no dimension above `largest`, and its wrapper."""
    described = json.loads(path.read_text())
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape, dtype, _role in described["tensors"]:
        values = torch.randn([min(size, largest) for size in shape], generator=generator) * 0.05
        tensors[name] = (values * 100 if dtype.startswith("int") else values).to(getattr(torch, dtype))
    return tensors, described["wrapper"]


def save(path: Path, tensors: object) -> Path:
    """Write `tensors` by torch.save."""
    torch.save(tensors, path)
    return path
