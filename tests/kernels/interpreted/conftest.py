"""The Triton kernels in their interpreter. `test_interpreter.py` runs this folder in another process."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

# Triton reads the variable when it defines a kernel, so one process either interprets kernels or compiles them.
collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


def _fenced(tensor: Tensor) -> Tensor:
    """Return a copy of `tensor` with memory before and after it that must not be read."""
    fill = torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max
    memory = torch.full((tensor.numel() + 512,), fill, dtype=tensor.dtype)
    inner = memory[256 : 256 + tensor.numel()].view(tensor.shape)
    return inner.copy_(tensor)


@pytest.fixture(scope="session")
def fenced() -> Callable[[Tensor], Tensor]:
    return _fenced


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[Tensor, Tensor]]:
    """Draws activations (rows, in) and a bias (out,) for a weight, in memory that is fenced."""

    def draw(weight, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(rows)
        x = torch.randn(rows, weight.width, generator=generator) + 0.2
        return _fenced(x.to(dtype)), _fenced(torch.randn(weight.out, generator=generator).to(dtype))

    return draw


@pytest.fixture(autouse=True)
def _poisoned(poison: None) -> None:
    """Run every test here with poisoned memory."""
