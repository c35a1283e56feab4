from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import bhk
from bhk.nn import plan

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_layer_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the codes of small layers, too, on a CPU."""
    monkeypatch.setattr(plan, "SMALL_ON_CPU", 0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Converts the state dict of a model, with `prefix` before each name, and returns the .bhk file."""

    def write(model: nn.Module, prefix: str = "", **options: object) -> Path:
        state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
        torch.save(state, tmp_path / "model.pth")
        path = bhk.convert(tmp_path / "model.pth", force=True, threads=1, **options).path
        (tmp_path / "model.pth").unlink()
        return path

    return write


def randomise(model: nn.Module, scale: float = 0.05) -> nn.Module:
    """Give all floating tensors of the state dict random values, including those that start as zeros."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator) * scale
            tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else noise)
    return model


@pytest.fixture(name="randomise")
def _randomise() -> Callable[..., nn.Module]:
    return randomise
