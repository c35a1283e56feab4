from __future__ import annotations

import math

import pytest
import torch

from bhk.codec import codebook as codebook_module
from bhk.codec.codebook import Codebook
from bhk.codec.error import decibels, measure
from bhk.codec.fit import encode_to_step
from bhk.codec.shape import Pairing, Shape


def _random(dims: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(dims, generator=torch.Generator().manual_seed(1)) + 1.5).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("dims", "pairing"), [((33, 3), "rows"), ((33, 1), "rows"), ((16, 4), "rows"), ((5, 7, 3), "flat"), ((77,), "flat")]
)
def test_the_error_is_that_of_the_decoded_tensor(dims: tuple[int, ...], pairing: Pairing, dtype: torch.dtype) -> None:
    tensor, shape = _random(dims, dtype), Shape(dims, pairing)
    pairs = shape.split(tensor)
    before = pairs.clone()
    coded = encode_to_step(pairs, 0.11)
    assert coded is not None
    found = measure(pairs, shape, *coded)
    exact = tensor.double()
    difference = shape.join(coded[0].decode(coded[1])).to(dtype).double() - exact
    assert found.mean_abs == pytest.approx(float(difference.abs().mean()), rel=1e-5)
    assert found.max_abs == pytest.approx(float(difference.abs().max()), rel=1e-5)
    ratio = float(exact.square().sum() / difference.square().sum())
    assert found.snr_db == pytest.approx(10 * math.log10(ratio), abs=1e-3)
    assert found.is_finite
    assert torch.equal(pairs, before)


@pytest.mark.parametrize("block_pairs", [1, 5, 64])
def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch, block_pairs: int) -> None:
    tensor, shape = _random((33, 5)), Shape((33, 5), "rows")
    pairs = shape.split(tensor)
    coded = encode_to_step(pairs, 0.11)
    assert coded is not None
    whole = measure(pairs, shape, *coded)
    monkeypatch.setattr(codebook_module, "BLOCK_PAIRS", block_pairs)
    parts = measure(pairs, shape, *coded)
    assert parts.max_abs == whole.max_abs
    assert (parts.mean_abs, parts.snr_db) == pytest.approx((whole.mean_abs, whole.snr_db), rel=1e-6)


@pytest.mark.parametrize("scale", [2.0**-90, 2.0**-60, 2.0**60, 2.0**90])
def test_squares_beyond_float32_are_no_limit(scale: float) -> None:
    shape = Shape((33, 4), "rows")
    results = []
    for factor in (1.0, scale):
        pairs = shape.split(_random((33, 4)) * factor)
        coded = encode_to_step(pairs, 0.125 * factor)
        assert coded is not None
        results.append(measure(pairs, shape, *coded))
    assert results[1].snr_db == pytest.approx(results[0].snr_db, abs=1e-3)
    assert results[1].mean_abs == pytest.approx(results[0].mean_abs * scale)


def test_no_error_is_an_infinite_ratio() -> None:
    pairs = torch.full((3, 2), 0.1)
    coded = encode_to_step(pairs, 1.0)
    assert coded is not None
    found = measure(pairs, Shape((3, 2), "rows"), *coded)
    assert (found.mean_abs, found.max_abs, found.snr_db) == (0.0, 0.0, math.inf)


def test_an_error_without_signal_is_minus_infinity() -> None:
    pairs = torch.zeros(3, 2)
    codebook = Codebook((0.0, 0.0), 1.0, 2)
    found = measure(pairs, Shape((3, 2), "rows"), codebook, codebook.encode_square(pairs)[0])
    assert (found.snr_db, found.max_abs) == (-math.inf, 0.25)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 40, 98])
def test_what_is_not_finite_makes_the_error_not_finite(monkeypatch: pytest.MonkeyPatch, value: float, at: int) -> None:
    monkeypatch.setattr(codebook_module, "BLOCK_PAIRS", 10)
    pairs = _random((99, 2))
    codebook = Codebook((1.5, 1.5), 8.0, 64)
    codes, _ = codebook.encode_square(pairs)
    shape = Shape((99, 2), "rows")
    assert measure(pairs, shape, codebook, codes).is_finite
    pairs[at, 1] = value
    found = measure(pairs, shape, codebook, codes)
    assert not found.is_finite
    assert not math.isfinite(found.max_abs)


def test_codes_beyond_the_range_of_the_dtype_make_the_error_not_finite() -> None:
    pairs = torch.tensor([[65504.0, 0.0]], dtype=torch.float16)
    codebook = Codebook((0.0, 0.0), 262144.0, 3)
    codes, _ = codebook.encode_square(pairs)
    assert float(codebook.decode(codes)[0, 0]) > 65520
    assert not measure(pairs, Shape((1, 2), "rows"), codebook, codes).is_finite


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == 20.0
    assert decibels(1e-300, 1e300) == pytest.approx(-6000)
    assert decibels(5.0, 0.0) == decibels(0.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) == -math.inf
