from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bhk.kernels import onednn
from bhk.kernels.onednn import (
    ONE_BYTE,
    SEVEN_BITS,
    SMALLEST,
    THREE_BYTES,
    Rounding,
    Weight,
    packed,
    packed_bytes,
    quantise_,
)

_SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.fixture(params=["onednn", "plain"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The product of integers on this machine, and the one on machines without oneDNN."""
    if request.param == "plain":
        monkeypatch.setattr(onednn, "has_onednn", lambda: False)
    elif not onednn.has_onednn():
        pytest.skip("torch has no oneDNN on this machine")
    return request.param


def _multiplied(weight: Weight, integers: Tensor) -> Tensor:
    y = torch.zeros(len(integers), weight.out)
    weight.add_product(integers, y, 1.0, *weight.rounding.zeros)
    return y


def _product(integers: Tensor, zero: int, weight: Tensor) -> Tensor:
    """The product in 64-bit integers, rounded once to float32."""
    return ((integers.long() - zero) @ weight.long().t()).float()


def _extremes(rows: int, width: int, lowest: int, highest: int) -> Tensor:
    """Rows of the lowest and highest values in every arrangement that makes neighbouring products add up."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.tensor([lowest, highest])
    drawn = ends[torch.randint(0, 2, (rows, width), generator=generator)]
    drawn[0], drawn[1] = lowest, highest
    drawn[2, ::2], drawn[2, 1::2] = lowest, highest
    return drawn


@pytest.mark.parametrize("width", [1, 2, 3, 31, 64, 130, 1280])
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-127, 127), (-64, 63), (-65, 0), (0, 65), (-64, 64), (0, 0)])
def test_products_of_extreme_values_are_exact(machine: str, width: int, low: int, high: int) -> None:
    weight = _extremes(9, width, low, high).to(torch.int8)
    ready = packed(weight)
    levels, (zero,), _ = ready.rounding
    integers = _extremes(40, width, zero - levels, zero + levels).to(torch.uint8)
    y = _multiplied(ready, integers)
    exact = _product(integers, zero, weight)
    # Sums up to 2^24 are float32 values; plain torch adds larger ones in float32.
    loose = machine == "plain" and width * 127 * 128 > 1 << 24
    assert torch.equal(y, exact) or (loose and torch.allclose(y, exact, rtol=1e-6, atol=4))


@pytest.mark.parametrize("saturates", [True, False])
def test_levels_do_not_saturate_on_the_machine(monkeypatch: pytest.MonkeyPatch, saturates: bool) -> None:
    if not onednn.has_onednn():
        pytest.skip("torch has no oneDNN on this machine")
    monkeypatch.setattr(onednn, "_saturates", lambda: saturates)
    narrow = SEVEN_BITS if saturates else ONE_BYTE
    for largest, rounding in ((64, ONE_BYTE), (65, narrow), (127, narrow)):
        (zero,) = rounding.zeros
        for weight in (torch.tensor([[largest, 0]]), torch.tensor([[0, -largest]])):
            ready = packed(weight.to(torch.int8))
            assert ready.rounding == rounding
            # Either choice multiplies small numbers rightly on every machine.
            integers = torch.tensor([[zero, zero + 2], [zero - 1, zero]], dtype=torch.uint8)
            assert torch.equal(_multiplied(ready, integers), _product(integers, zero, weight))


@_SETTINGS
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 300),
    out=st.integers(1, 40),
    top=st.integers(1, 127),
    seed=st.integers(0, 99),
)
def test_products_of_any_integers_are_exact(rows: int, width: int, out: int, top: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-top - 1, top + 1, (out, width), generator=generator, dtype=torch.int8)
    ready = packed(weight)
    levels, (zero,), _ = ready.rounding
    integers = torch.randint(1, 2 * levels + 2, (rows, width), generator=generator, dtype=torch.uint8)
    assert torch.equal(_multiplied(ready, integers), _product(integers, zero, weight))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_default_dtype_changes_nothing(dtype: torch.dtype) -> None:
    trials = (onednn.has_onednn, onednn.has_onednn_linear, onednn._saturates)
    expected = [trial.__wrapped__() for trial in trials]
    torch.set_default_dtype(dtype)
    try:
        assert [trial.__wrapped__() for trial in trials] == expected
        weight = torch.arange(-6, 6, dtype=torch.int8).view(3, 4)
        assert packed(weight).scales.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_strided_bias_is_read_by_its_strides() -> None:
    if not onednn.has_onednn_linear():
        pytest.skip("torch has no oneDNN on this machine")
    x, weight, bias = torch.ones(2, 4), torch.ones(3, 4), torch.arange(6.0)
    assert torch.equal(onednn.onednn_linear(x, weight, bias[::2]), 4 + bias[::2].expand(2, 3))
    assert torch.equal(onednn.onednn_linear(x, weight, bias[3].expand(3)), torch.full((2, 3), 7.0))


def test_a_product_is_scaled_and_added(machine: str) -> None:
    weight = torch.arange(-6, 6, dtype=torch.int8).view(3, 4)
    integers, y = torch.arange(100, 108, dtype=torch.uint8).view(2, 4), torch.ones(2, 3)
    packed(weight).add_product(integers, y, 0.5, 100)
    assert torch.equal(y, 1 + 0.5 * _product(integers, 100, weight))


@pytest.mark.parametrize("inference", [False, True])
def test_a_weight_is_packed_once_and_again_when_it_changes(machine: str, inference: bool) -> None:
    with torch.inference_mode(inference):
        weight = torch.zeros(4, 4, dtype=torch.int8)
        assert packed_bytes(weight) == 0
        ready, is_kept = packed(weight), machine == "onednn" and not inference
        assert (packed(weight) is ready) is is_kept
        assert packed_bytes(weight) == (16 + 4 * 8 if is_kept else 0)
        weight.add_(1)
        integers = torch.full((1, 4), 129, dtype=torch.uint8)
        assert torch.equal(_multiplied(packed(weight), integers), torch.full((1, 4), 4.0))


def test_what_is_packed_is_freed_with_the_weight(machine: str) -> None:
    before = len(onednn._packed)
    weight = torch.zeros(4, 4, dtype=torch.int8)
    packed(weight)
    assert len(onednn._packed) == before + (machine == "onednn")
    del weight
    assert len(onednn._packed) == before


@_SETTINGS
@given(
    rows=st.integers(0, 9),
    width=st.integers(1, 99),
    rounding=st.sampled_from([ONE_BYTE, SEVEN_BITS, THREE_BYTES]),
    scale=st.sampled_from([1e-40, 1e-20, 1e-3, 1.0, 1e5, 1e30]),
    seed=st.integers(0, 99),
)
def test_each_row_is_rounded_to_its_own_symmetric_steps(
    rows: int, width: int, rounding: Rounding, scale: float, seed: int
) -> None:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale
    integers = torch.empty(len(rounding.zeros), rows, width, dtype=torch.uint8)
    step = quantise_(x.clone(), rounding, integers).double()
    assert step.shape == (rows, 1)
    whole = sum(
        (piece.double() - zero) * factor
        for piece, zero, factor in zip(integers, rounding.zeros, rounding.factors, strict=True)
    )
    largest = x.double().abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(step, (largest / rounding.largest).clamp(min=SMALLEST), rtol=1e-6, atol=0)
    # The factor of a row is a float32, too.
    assert bool(((whole * step - x.double()).abs() <= (0.5 + 1e-4) * step + 1.2e-7 * largest).all())
    normal = largest[:, 0] > 1e-20
    assert bool((whole[normal].abs().amax(dim=1) - rounding.largest).abs().le(1).all())


def test_zeros_stay_zeros() -> None:
    integers = torch.empty(3, 3, 5, dtype=torch.uint8)
    step = quantise_(torch.zeros(3, 5), THREE_BYTES, integers)
    assert [piece.unique().tolist() for piece in integers] == [[128], [128], [64]]
    assert bool((step > 0).all())
