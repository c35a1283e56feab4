from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from bhk.codec.codebook import Codebook
from bhk.codec.trajectory import Lattice
from bhk.kernels import reference
from bhk.kernels.onednn import THREE_BYTES, has_onednn_linear, onednn_linear, packed
from bhk.kernels.resident import MAX_FAR

_SETTINGS = settings(deadline=None, derandomize=True, max_examples=80)


def _draw(rows: int, width: int, out: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw activations with a mean other than zero, and a bias."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator) + 0.2
    return x.to(dtype), torch.randn(out, generator=generator).to(dtype)


def _run(weight, x: Tensor, bias: Tensor | None, compute: str = "exact") -> Tensor:
    held = weight.resident
    return reference.hyper_linear(x, held.codes, held.codebook, held.outliers, held.far, bias, compute)


@_SETTINGS
@given(
    rows=st.one_of(st.integers(0, 5), st.integers(0, 130)),
    width=st.integers(1, 130),
    out=st.integers(1, 130),
    book=st.sampled_from([(256, 0, 0), (255, 9, 2), (64, 1, 1), (7, 255, 2), (1, 0, 0), (256, 255, 99), (40, 3, 99)]),
    lattice=st.sampled_from(["centred", "corner", "grid"]),
    has_bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_are_exact_to_float32(
    random_weight: Callable,
    relative,
    rows: int,
    width: int,
    out: int,
    book: tuple[int, int, int],
    lattice: Lattice,
    has_bias: bool,
    seed: int,
) -> None:
    windings, shells, outliers = book
    weight = random_weight(out, width, windings, shells, outliers=outliers, lattice=lattice, seed=seed)
    x, bias = _draw(rows, width, out, seed=seed)
    y = _run(weight, x, bias if has_bias else None)
    assert (y.shape, y.dtype) == ((rows, out), torch.float32)
    assert relative(y, weight.product(x, bias if has_bias else None)) <= 1e-6


@pytest.mark.parametrize(("rows", "out", "width"), [(3, 2050, 2051), (2, 3, 2_100_001), (1, 3, 2_100_001)])
@pytest.mark.parametrize("outliers", [0, 50])
def test_weights_of_several_blocks_are_multiplied_block_by_block(
    random_weight, relative, poison, rows: int, out: int, width: int, outliers: int
) -> None:
    assert out * width > reference.SCRATCH_WEIGHTS
    weight = random_weight(out, width, 200, 3, outliers=outliers)
    x, bias = _draw(rows, width, out)
    exact = weight.product(x, bias)
    # Two million float32 products do not add up to 1e-6 in a linear layer either.
    limit = max(1e-6, 2 * relative(linear(x, weight.dense, bias), exact))
    assert relative(_run(weight, x, bias), exact) <= limit
    assert torch.equal(reference.decode(*weight.decode_operands, width, torch.float32), weight.dense)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("rows", "out", "width"), [(1, 96, 65), (100, 96, 65), (5, 2050, 2051)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_other_dtypes_are_as_exact_as_a_linear_layer(
    random_weight, relative, dtype: torch.dtype, rows: int, out: int, width: int, has_bias: bool
) -> None:
    weight = random_weight(out, width, 256, 3, outliers=5)
    x, bias = _draw(rows, width, out, dtype)
    bias = bias if has_bias else None
    y, exact = _run(weight, x, bias), weight.product(x, bias)
    assert y.dtype == dtype
    assert relative(y, exact) <= 1.05 * relative(linear(x, weight.dense.to(dtype), bias), exact)


@pytest.mark.parametrize(
    ("rows", "out", "width", "windings", "shells", "outliers"),
    [
        (80, 64, 65, 256, 0, 0),
        (70, 33, 64, 128, 0, 0),
        (1100, 48, 96, 100, 3, 11),
        (513, 40, 131, 256, 9, 13),
        (65, 7, 1, 5, 0, 0),
        (64, 3, 2, 1, 0, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_integer_products_round_each_row_to_a_byte(
    any_size,
    random_weight,
    relative,
    poison,
    rows: int,
    out: int,
    width: int,
    windings: int,
    shells: int,
    outliers: int,
    dtype: torch.dtype,
) -> None:
    weight = random_weight(out, width, windings, shells, outliers=outliers)
    assert weight.resident.codes.dtype == torch.int8
    assert len(weight.resident.far) > 0 or windings < 256 or not shells
    x, bias = _draw(rows, width, out, dtype)
    x[rows // 2] = 0
    y, exact = _run(weight, x, bias, "int8"), weight.product(x, bias)
    levels = packed(weight.resident.codes).rounding.largest
    # A few activations lie half-way between two steps and may be rounded either way.
    rounding = 2e-4 if dtype == torch.float32 else 3e-3
    assert relative(y, weight.rounded_product(x, bias, levels)) <= rounding
    assert torch.equal(y[rows // 2], bias)
    error = relative(y, exact)
    assert error <= 1.3 / levels
    if width > 2 and windings > 1:
        assert error > 1e-4  # it was not the exact product


@pytest.mark.parametrize("machine", ["integers", "decoded"])
@pytest.mark.parametrize(
    ("rows", "out", "width", "windings", "shells", "outliers"),
    [
        (80, 64, 65, 256, 0, 0),
        (1100, 48, 96, 100, 3, 11),
        (513, 40, 131, 256, 9, 13),
        (300, 20, 96, 256, 9, MAX_FAR + 1),
    ],
)
def test_many_rows_are_exact_to_float32_in_both_ways(
    any_size,
    random_weight,
    relative,
    poison,
    monkeypatch: pytest.MonkeyPatch,
    machine: str,
    rows: int,
    out: int,
    width: int,
    windings: int,
    shells: int,
    outliers: int,
) -> None:
    monkeypatch.setattr(reference, "_integers_are_faster", lambda: machine == "integers")
    ran: list[int] = []
    run = reference._integer
    monkeypatch.setattr(reference, "_integer", lambda *operands: ran.append(operands[-1]) or run(*operands))
    weight = random_weight(out, width, windings, shells, outliers=outliers)
    x, bias = _draw(rows, width, out)
    x[rows // 2] = 0
    x[rows // 3] *= 1e6
    x[rows // 4, 1:] *= 1e-6
    y, exact = _run(weight, x, bias), weight.product(x, bias)
    assert ran == ([THREE_BYTES] if machine == "integers" and outliers <= MAX_FAR else [])
    for row in (slice(None), rows // 3, rows // 4):
        assert relative(y[row], exact[row]) <= 1e-6
    assert torch.equal(y[rows // 2], bias)


@pytest.mark.parametrize(("rows", "out", "width"), [(70, 64, 33), (1030, 2050, 2051)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_onednn_multiplies_as_exactly(
    random_weight, relative, monkeypatch: pytest.MonkeyPatch, rows: int, out: int, width: int, has_bias: bool
) -> None:
    if not has_onednn_linear():
        pytest.skip("torch has no oneDNN on this machine")
    ran: list[int] = []
    monkeypatch.setattr(reference, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(reference, "_integers_are_faster", lambda: False)
    monkeypatch.setattr(reference, "onednn_linear", lambda *operands: ran.append(1) or onednn_linear(*operands))
    weight = random_weight(out, width, 64, 3, outliers=9)
    x, bias = _draw(rows, width, out)
    bias = bias if has_bias else None
    assert relative(_run(weight, x, bias), weight.product(x, bias)) <= 1e-6
    assert len(ran) == (1 if width < 100 else 2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_no_product_hides_what_is_not_finite(
    any_size, random_weight, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    monkeypatch.setattr(reference, "_integers_are_faster", lambda: True)
    weight = random_weight(33, 40)
    x, bias = _draw(70, 40, 33)
    x[5, 7] = value
    for compute in ("exact", "int8"):
        is_finite = _run(weight, x, bias, compute).isfinite().all(1)
        assert is_finite.sum() == 69
        assert not is_finite[5]


def test_each_row_is_rounded_by_itself(any_size, random_weight, relative) -> None:
    weight = random_weight(33, 40)
    x, bias = _draw(70, 40, 33)
    y = _run(weight, x, bias, "int8")
    x[3] *= 1e6
    x[5] = torch.nan
    again = _run(weight, x, bias, "int8")
    others = torch.tensor([row for row in range(70) if row not in (3, 5)])
    assert torch.equal(again[others], y[others])
    assert again[5].isnan().all()
    assert relative(again[3], weight.product(x[3:4], bias)[0]) < 0.03


@pytest.mark.parametrize("count", [MAX_FAR, MAX_FAR + 1])
def test_weights_with_many_far_outliers_are_multiplied_exactly(any_size, random_weight, relative, count: int) -> None:
    weight = random_weight(240, 480, 256, 1, outliers=count)
    # Shell 1 of this codebook is far only at its edge; a wider one is far for nearly all.
    weight = type(weight)(Codebook((0.0, 0.0), 0.375, 256, 1, 30.0), weight.codes, weight.out, weight.width)
    far = len(weight.resident.far)
    assert count - 5 <= far <= count
    x, _ = _draw(200, 480, 240)
    error = relative(_run(weight, x, None, "int8"), weight.product(x, None))
    if far <= MAX_FAR:
        assert 1e-4 < error < 0.02
    else:
        assert error <= 1e-6


def test_few_rows_and_scalar_weights_are_multiplied_exactly_in_integer_mode(any_size, random_weight) -> None:
    x, bias = _draw(64, 33, 48)
    lattice, scalar = random_weight(48, 33), random_weight(48, 33, lattice="corner")
    for weight, rows in ((lattice, x[: reference.INTEGER_ROWS - 1]), (scalar, x)):
        assert torch.equal(_run(weight, rows, bias, "int8"), _run(weight, rows, bias, "exact"))


@pytest.mark.parametrize("compute", ["exact", "int8"])
def test_operands_are_not_changed(any_size, random_weight, compute: str) -> None:
    for weight in (random_weight(20, 100, 256, 9, outliers=5), random_weight(20, 100, 256, 9, outliers=50)):
        for rows in (1, 100):
            x, bias = _draw(rows, 100, 20)
            before = [tensor.clone() for tensor in (x, bias, *weight.operands)]
            first = _run(weight, x, bias, compute)
            assert all(torch.equal(a, b) for a, b in zip(before, (x, bias, *weight.operands), strict=True))
            assert torch.equal(_run(weight, x, bias, compute), first)


def test_small_weights_are_multiplied_exactly_in_integer_mode(random_weight) -> None:
    for width, is_rounded in ((446, False), (450, True)):
        weight = random_weight(448, width)
        x, bias = _draw(300, width, 448)
        assert torch.equal(_run(weight, x, bias, "int8"), _run(weight, x, bias, "exact")) != is_rounded
