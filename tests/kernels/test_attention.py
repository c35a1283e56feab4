"""Attention with relative positions, in all of its forms, against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bhk.kernels import attention

# (batch, height, width, heads, head), window; blocks of 16 queries and 4,096 scores cut them in different ways.
_SHAPES = [
    ((1, 1, 1, 1, 8), (1, 1)),
    ((3, 5, 3, 2, 7), (5, 3)),
    ((1, 9, 7, 3, 16), (9, 7)),
    ((2, 9, 7, 3, 16), (3, 7)),
    ((2, 9, 7, 5, 4), (4, 4)),
    ((1, 2, 20, 1, 8), (3, 21)),
    ((0, 3, 3, 2, 8), (2, 2)),
]
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 6e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK_QUERIES", 16)
    monkeypatch.setattr(attention, "UNFUSED_QUERIES", 16)
    monkeypatch.setattr(attention, "BLOCK_SCORES", 4096)


def _draw(
    shape: tuple[int, ...], window: tuple[int, int], dtype: torch.dtype = torch.float32, *, grad: bool = False
) -> list[Tensor | None]:
    batch, height, width, heads, head = shape
    sizes = [(batch, height, width, 3, heads, head), (3, heads, head), *((side, side, head) for side in window)]
    generator = torch.Generator().manual_seed(0)
    drawn: list[Tensor | None] = [
        torch.randn(size, generator=generator).to(dtype).requires_grad_(grad) for size in sizes
    ]
    return drawn if height % window[0] or width % window[1] else [drawn[0], None, *drawn[2:]]


def _blocked(*given: Any) -> Tensor:
    return attention._blocked(*given, "exact")  # type: ignore[no-any-return]


def _formula(qkv: Tensor, padding: Tensor | None, rows: Tensor, columns: Tensor, scale: float) -> Tensor:
    y = torch.zeros_like(qkv[:, :, :, 0])
    (batch, height, width), tall, wide = qkv.shape[:3], len(rows), len(columns)
    for image in range(batch):
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                tokens = qkv[image, top : top + tall, left : left + wide]
                (down, across), whole = tokens.shape[:2], qkv.new_zeros(tall, wide, *qkv.shape[3:])
                if padding is not None:
                    whole += padding
                whole[:down, :across] = tokens
                q, k, v = whole.unbind(2)
                scores = scale * torch.einsum("yxnd,rcnd->nyxrc", q, k)
                scores += torch.einsum("yxnd,yrd->nyxr", q, rows)[..., None]
                scores += torch.einsum("yxnd,xcd->nyxc", q, columns)[..., None, :]
                weights = scores.flatten(3).softmax(-1).view(scores.shape)
                gathered = torch.einsum("nyxrc,rcnd->yxnd", weights, v)
                y[image, top : top + tall, left : left + wide] = gathered[:down, :across]
    return y


def _double(inputs: list[Tensor | None]) -> list[Tensor | None]:
    return [None if tensor is None else tensor.double() for tensor in inputs]


@pytest.mark.parametrize("dtype", list(_TOLERANCE))
@pytest.mark.parametrize(("shape", "window"), _SHAPES)
@pytest.mark.parametrize("form", [_blocked, attention._one_hot], ids=["blocked", "one-hot"])
def test_both_forms_compute_the_formula(form, shape: tuple[int, ...], window: tuple[int, int], dtype) -> None:
    _compare(form, shape, window, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("shape", "window"), _SHAPES)
def test_the_form_for_onnx_computes_the_formula(shape: tuple[int, ...], window: tuple[int, int], dtype) -> None:
    _compare(attention._unfused, shape, window, dtype)


def _compare(form: Any, shape: tuple[int, ...], window: tuple[int, int], dtype: torch.dtype) -> None:
    inputs = _draw(shape, window, dtype)
    expected = _formula(*_double(inputs), 0.3)
    found = form(*inputs, 0.3)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=_TOLERANCE[dtype], atol=_TOLERANCE[dtype])


@pytest.mark.parametrize(("heads", "tall", "wide"), [(1, 1, 1), (12, 14, 14), (3, 9, 7), (2, 5, 40), (40, 2, 2)])
def test_blocks_cover_every_query_once(heads: int, tall: int, wide: int) -> None:
    taken, keys = torch.zeros(heads, tall, wide), tall * wide
    for place in attention._blocks(heads, tall, wide, keys):
        taken[place] += 1
        assert taken[place].numel() * keys <= max(4096, max(16, wide) * keys)
    assert bool((taken == 1).all())


def test_tokens_need_not_be_contiguous() -> None:
    qkv, *rest = _draw((2, 6, 5, 2, 8), (6, 5))
    assert qkv is not None
    strided = qkv.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(_blocked(strided, *rest, 0.3), _blocked(qkv, *rest, 0.3))


@pytest.mark.parametrize("window", [(3, 2), (2, 2)])
def test_gradients_reach_all_inputs(window: tuple[int, int]) -> None:
    inputs = _draw((2, 3, 2, 2, 5), window, torch.float64, grad=True)
    assert torch.autograd.gradcheck(lambda *given: attention.relative_attention(*given, 0.4), inputs)


def test_blocks_are_taken_where_no_gradient_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_blocked", lambda *given: "blocked")
    monkeypatch.setattr(attention, "_one_hot", lambda *given: "one-hot")
    inputs = _draw((1, 2, 2, 1, 4), (2, 2), grad=True)
    assert attention.relative_attention(*inputs, 1.0) == "one-hot"
    with torch.no_grad():
        assert attention.relative_attention(*inputs, 1.0) == "blocked"
    qkv, *rest = _draw((1, 2, 2, 1, 4), (2, 2))
    assert qkv is not None
    assert attention.relative_attention(qkv, *rest, 1.0) == "blocked"
    assert attention.relative_attention(qkv.to("meta"), *rest, 1.0) == "one-hot"
    with forward_ad.dual_level():
        assert attention.relative_attention(qkv, *rest, 1.0) == "one-hot"
    assert attention.relative_attention(qkv, *rest, 1.0) == "blocked"


@pytest.mark.parametrize("window", [(3, 2), (2, 2)])
def test_gradients_in_forward_mode(window: tuple[int, int]) -> None:
    inputs = _draw((2, 3, 2, 2, 5), window, torch.float64)
    tangents = [None if tensor is None else tensor.flip(-1) for tensor in inputs]
    assert inputs[1] is None or tangents[1] is not None
    given, slopes = (tuple(tensor for tensor in some if tensor is not None) for some in (inputs, tangents))

    def at(form: Any, tensors: tuple[Tensor, ...]) -> Tensor:
        rest = tensors[1:] if len(tensors) == 4 else (None, *tensors[1:])
        return form(tensors[0], *rest, 0.4)  # type: ignore[no-any-return]

    step = 1e-5
    ahead, behind = (
        at(_formula, tuple(x + sign * step * slope for x, slope in zip(given, slopes, strict=True))) for sign in (1, -1)
    )
    _, found = torch.func.jvp(lambda *tensors: at(attention.relative_attention, tensors), given, slopes)
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-7)


def test_tangents_of_an_outer_call_reach_through_an_inner_one() -> None:
    qkv, *rest = _draw((1, 3, 2, 2, 5), (3, 2), torch.float64)
    assert qkv is not None
    one = torch.ones((), dtype=torch.float64)

    def slope(form: Any, qkv: Tensor) -> Tensor:
        return torch.func.jvp(lambda factor: factor * form(qkv, *rest, 0.4), (one,), (one,))[1]  # type: ignore[no-any-return]

    found, expected = (
        torch.func.jvp(lambda x, form=form: slope(form, x), (qkv,), (qkv,))[1]
        for form in (attention.relative_attention, attention._one_hot)
    )
    assert found.norm() > 1
    assert torch.equal(found, expected)


@pytest.mark.parametrize("window", [(3, 2), (2, 2)])
def test_tables_are_taken_in_the_dtype_of_tokens(window: tuple[int, int]) -> None:
    qkv, *rest = _draw((2, 3, 2, 2, 8), window)
    assert qkv is not None
    found = attention.relative_attention(qkv.bfloat16(), *rest, 0.3)
    assert torch.equal(found, _blocked(*(x if x is None else x.bfloat16() for x in (qkv, *rest)), 0.3))


@pytest.mark.parametrize(("shape", "window"), _SHAPES)
def test_the_operator_is_registered_as_it_behaves(shape: tuple[int, ...], window: tuple[int, int]) -> None:
    torch.library.opcheck(torch.ops.bhk.relative_attention.default, (*_draw(shape, window), 0.3, "exact"))


@pytest.mark.parametrize("faster", [True, False])
@pytest.mark.parametrize(("shape", "window"), _SHAPES[:-1])
def test_a_cpu_rounds_where_that_is_faster(
    faster: bool, shape: tuple[int, ...], window: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "is_faster", lambda *asked: faster)
    inputs = _draw(shape, window)
    expected = _blocked(*inputs, 0.3)
    found = attention.relative_attention(*inputs, 0.3, "int8")
    error = (found - expected).norm() / expected.norm()
    assert found.dtype == torch.float32
    assert 1e-4 < error < 1e-2 if faster else error == 0
    double = [None if tensor is None else tensor.double() for tensor in inputs]
    assert torch.equal(attention.relative_attention(*double, 0.3, "int8"), _blocked(*double, 0.3))


def test_a_default_dtype_does_not_change_what_is_asked() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        rounded, exact = attention._typical()
        assert {product().dtype for product in (rounded, exact)} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_machine_is_asked_with_typical_attention() -> None:
    rounded, exact = attention._typical()
    assert rounded().shape == exact().shape == (1, 32, 64, 1, 64)
    torch.testing.assert_close(rounded(), exact())
