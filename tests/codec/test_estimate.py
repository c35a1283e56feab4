from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch

from bhk.codec.estimate import estimate
from bhk.codec.fit import SAMPLE_PAIRS, sample_tensor, spread, step_for
from bhk.codec.shape import Shape
from bhk.codec.tensor import encode_tensor

_DIMS = (501, 999)


@functools.cache
def _gaussian(freedom: int) -> torch.Tensor:
    return torch.randn(_DIMS, generator=torch.Generator().manual_seed(freedom))


@functools.cache
def _student(freedom: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(freedom)
    chi = sum(torch.randn(_DIMS, generator=generator).square() for _ in range(freedom))
    return torch.randn(_DIMS, generator=generator) / (chi / freedom).sqrt()  # type: ignore[operator]


@pytest.mark.parametrize("snr", [12.0, 22.0, 28.0, 34.0, 41.0])
@pytest.mark.parametrize(("make", "freedom"), [(_gaussian, 0), (_student, 3), (_student, 6)])
def test_sizes_are_estimated_from_a_sample(make: Callable[[int], torch.Tensor], freedom: int, snr: float) -> None:
    tensor = make(freedom) * 0.02
    step = step_for(spread(sample_tensor(tensor)).whole, snr)
    pairs = Shape(_DIMS, "rows").count
    assert pairs > 3 * SAMPLE_PAIRS
    found, _ = estimate(sample_tensor(tensor), pairs, step)
    assert found == pytest.approx(encode_tensor(tensor, "rows", step).nbytes, rel=0.03)


def test_where_packed_codes_are_smaller_they_are_estimated() -> None:
    # Codes that are all equally likely do not compress.
    tensor = torch.rand(33, 9, generator=torch.Generator().manual_seed(1))
    step = 1 / 64
    encoded = encode_tensor(tensor, "flat", step)
    assert [stream.codec for stream in encoded.streams] == ["packed"]
    found, streams = estimate(sample_tensor(tensor), 149, step)
    assert found == pytest.approx(encoded.nbytes, rel=0.03)
    assert streams == 1


@pytest.mark.parametrize("scale", [0.003, 0.02, 0.05])
def test_the_published_method_is_estimated_exactly_where_the_sample_is_all(scale: float) -> None:
    tensor = torch.randn(77, 98, generator=torch.Generator().manual_seed(2)) * scale
    assert estimate(sample_tensor(tensor), 77 * 49, None) == (encode_tensor(tensor, "rows", None).nbytes, 1)


def test_a_tensor_that_will_be_kept_exact_has_no_estimate() -> None:
    tensor = torch.randn(99, 33, generator=torch.Generator().manual_seed(3))
    assert estimate(sample_tensor(tensor), 99 * 17, None) == (math.inf, 1)
    assert estimate(sample_tensor(tensor * 1e-35), 99 * 17, 1e-36) == (math.inf, 1)
