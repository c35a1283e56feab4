"""Attention with relative positions, in both of its forms, against the formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bhk.kernels import attention

# (batch, heads, rows, columns, head); blocks of 16 queries and 4,096 biases cut them in different ways.
_SHAPES = [(1, 1, 1, 1, 8), (3, 2, 5, 3, 7), (1, 3, 9, 7, 16), (25, 3, 3, 4, 5), (0, 2, 3, 3, 8)]
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK_QUERIES", 16)
    monkeypatch.setattr(attention, "BLOCK_BIASES", 4096)


def _draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, grad: bool = False) -> list[Tensor]:
    """Return q, k and v, strided as in models, heights and widths."""
    batch, heads, rows, columns, width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [(batch, rows * columns, heads, width)] * 3 + [
        (batch, rows * columns, heads, size) for size in (rows, columns)
    ]
    drawn = [torch.randn(size, generator=generator).to(dtype).transpose(1, 2) for size in sizes]
    return [tensor.requires_grad_() for tensor in drawn] if grad else drawn


def _formula(q: Tensor, k: Tensor, v: Tensor, heights: Tensor, widths: Tensor, scale: float) -> Tensor:
    bias = (heights[..., :, None] + widths[..., None, :]).flatten(-2)
    return (scale * q @ k.transpose(-2, -1) + bias).softmax(-1) @ v


@pytest.mark.parametrize("dtype", list(_TOLERANCE))
@pytest.mark.parametrize("shape", _SHAPES)
@pytest.mark.parametrize("form", [attention._blocked, attention._one_hot], ids=["blocked", "one-hot"])
def test_both_forms_compute_the_formula(form, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs = _draw(shape, dtype)
    expected = _formula(*(tensor.double() for tensor in inputs), 0.3)
    found = form(*inputs, 0.3)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=_TOLERANCE[dtype], atol=_TOLERANCE[dtype])


@pytest.mark.parametrize("shape", _SHAPES)
def test_blocks_cover_every_query_once(shape: tuple[int, ...]) -> None:
    batch, heads, rows, columns, _ = shape
    taken = torch.zeros(batch, heads, rows * columns)
    for place in attention._blocks(batch, heads, rows * columns, rows * columns):
        taken[place] += 1
        assert taken[place].numel() * rows * columns <= max(4096, 16 * rows * columns)
    assert bool((taken == 1).all())


def test_gradients_reach_all_inputs() -> None:
    inputs = _draw((2, 2, 3, 2, 5), torch.float64, grad=True)
    assert torch.autograd.gradcheck(lambda *given: attention.relative_attention(*given, 0.4), inputs)


def test_blocks_are_taken_where_no_gradient_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_blocked", lambda *given: "blocked")
    monkeypatch.setattr(attention, "_one_hot", lambda *given: "one-hot")
    inputs = _draw((1, 1, 2, 2, 4), grad=True)
    assert attention.relative_attention(*inputs, 1.0) == "one-hot"
    with torch.no_grad():
        assert attention.relative_attention(*inputs, 1.0) == "blocked"
    assert attention.relative_attention(*(tensor.detach() for tensor in inputs), 1.0) == "blocked"
    assert attention.relative_attention(*(tensor.to("meta") for tensor in inputs), 1.0) == "one-hot"


@pytest.mark.parametrize("shape", _SHAPES)
def test_the_operator_is_registered_as_it_behaves(shape: tuple[int, ...]) -> None:
    torch.library.opcheck(torch.ops.bhk.relative_attention.default, (*_draw(shape), 0.3))
