from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bhk.kernels import int8_cpu
from bhk.kernels.int8_cpu import make_product, quantise_

_SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.fixture(params=["onednn", "plain"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The product of integers on this machine, and the one on machines without oneDNN."""
    if request.param == "plain":
        monkeypatch.setattr(int8_cpu, "_has_onednn", lambda: False)
    elif not int8_cpu._has_onednn():
        pytest.skip("torch has no oneDNN on this machine")
    return request.param


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
    multiply, levels = make_product(weight)
    zero = levels + 1
    integers = _extremes(40, width, zero - levels, zero + levels).to(torch.uint8)
    y = multiply(integers)
    assert y.dtype == torch.float32
    exact = _product(integers, zero, weight)
    # Sums up to 2^24 are float32 values; plain torch adds larger ones in float32.
    loose = machine == "plain" and width * 127 * 128 > 1 << 24
    assert torch.equal(y, exact) or (loose and torch.allclose(y, exact, rtol=1e-6, atol=4))


@pytest.mark.parametrize("saturates", [True, False])
def test_levels_do_not_saturate_on_the_machine(monkeypatch: pytest.MonkeyPatch, saturates: bool) -> None:
    if not int8_cpu._has_onednn():
        pytest.skip("torch has no oneDNN on this machine")
    monkeypatch.setattr(int8_cpu, "_saturates", lambda: saturates)
    for largest, levels in ((64, 127), (65, 63 if saturates else 127), (127, 63 if saturates else 127)):
        for weight in (torch.tensor([[largest, 0]]), torch.tensor([[0, -largest]])):
            multiply, chosen = make_product(weight.to(torch.int8))
            assert chosen == levels
            # Either choice multiplies small numbers rightly on every machine.
            integers = torch.tensor([[levels + 1, levels + 3], [levels, levels + 1]], dtype=torch.uint8)
            assert torch.equal(multiply(integers), _product(integers, levels + 1, weight))


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
    multiply, levels = make_product(weight)
    integers = torch.randint(1, 2 * levels + 2, (rows, width), generator=generator, dtype=torch.uint8)
    assert torch.equal(multiply(integers), _product(integers, levels + 1, weight))


@_SETTINGS
@given(
    rows=st.integers(0, 9),
    width=st.integers(1, 99),
    levels=st.sampled_from([63, 127]),
    scale=st.sampled_from([1e-40, 1e-30, 1e-3, 1.0, 1e5, 1e30]),
    seed=st.integers(0, 99),
)
def test_each_row_is_rounded_to_its_own_symmetric_steps(
    rows: int, width: int, levels: int, scale: float, seed: int
) -> None:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale
    kept = x.clone()
    integers, step = quantise_(x.clone(), levels)
    assert torch.equal(x, kept)
    assert (integers.dtype, integers.shape, step.shape) == (torch.uint8, x.shape, (rows, 1))
    signed = integers.double() - (levels + 1)
    assert bool((signed.abs() <= levels).all())
    largest = x.double().abs().amax(dim=1, keepdim=True)
    normal = largest[:, 0] > 1e-35
    torch.testing.assert_close(step.double()[normal], (largest / levels)[normal], rtol=1e-6, atol=0)
    assert bool(((signed * step - x.double()).abs() <= (0.5 + 1e-4) * step).all())
    assert bool((signed[normal].abs().amax(dim=1) == levels).all())


def test_zeros_stay_zeros() -> None:
    integers, step = quantise_(torch.zeros(3, 5), 127)
    assert integers.unique().tolist() == [128]
    assert bool((step > 0).all())
