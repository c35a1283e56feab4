"""Zeros that mean something: pruned weights, dead channels, padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bhk.codec.feedback import feedback_from
from bhk.codec.fit import Spread, encode_to_step, has_zeros, sample_tensor, spread, spread_of, square_for, step_for
from bhk.codec.tensor import encode, encode_tensor


def _weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def _pruned(share: float) -> Callable[[], Tensor]:
    def make() -> Tensor:
        weights = _weights(256, 256)
        return weights.masked_fill(torch.rand(256, 256, generator=torch.Generator().manual_seed(1)) < share, 0)

    return make


def _by_magnitude() -> Tensor:
    weights = _weights(128, 300)
    return weights.masked_fill(weights.abs() < 0.04, 0)


def _two_of_four() -> Tensor:
    weights = _weights(256, 256)
    rank = weights.view(256, 64, 4).abs().argsort(-1).argsort(-1)
    return torch.where((rank >= 2).view(256, 256), weights, 0.0)


def _dead(*place: slice | int) -> Callable[[], Tensor]:
    def make() -> Tensor:
        weights = _weights(64, 32, 3, 3)
        weights[place] = 0
        return weights

    return make


def _odd_rows() -> Tensor:
    weights = _weights(200, 33)
    weights[::7] = 0
    weights[:, 5] = 0
    return weights


def _skewed() -> Tensor:
    weights = torch.rand(256, 128, generator=torch.Generator().manual_seed(2)) + 0.2
    weights[3] = 0
    weights[:, ::9] = 0
    return weights


def _heavy() -> Tensor:
    weights = torch.distributions.StudentT(2.0).sample((256, 256)) * 0.01
    return weights.masked_fill(_pruned(0.5)() == 0, 0)


def _padding_row() -> Tensor:
    weights = _weights(40_000, 8)
    weights[0] = 0
    return weights


_TENSORS = {
    "20 % pruned": _pruned(0.2),
    "half pruned": _pruned(0.5),
    "95 % pruned": _pruned(0.95),
    "pruned by magnitude": _by_magnitude,
    "2:4": _two_of_four,
    "dead outputs": _dead(slice(3, 5)),
    "a dead input": _dead(slice(None), 7),
    "a dead corner of kernels": _dead(slice(None), slice(None), 0, 0),
    "rows of odd length": _odd_rows,
    "all positive": _skewed,
    "heavy tails": _heavy,
    "a padding row": _padding_row,
}


@pytest.mark.parametrize("preset", ["fine", "balanced", "small"])
@pytest.mark.parametrize("name", list(_TENSORS))
def test_zeros_stay_zero(name: str, preset: str) -> None:
    torch.manual_seed(3)
    tensor = _TENSORS[name]()
    encoded = encode(tensor, preset)
    decoded = encoded.decode()
    assert encoded.codebook is not None
    assert encoded.lost_zeros == 0
    assert bool((decoded[tensor == 0] == 0).all())
    # The errors of the others are as large as the preset wants: uniform over a step.
    step = step_for(spread_of(tensor).whole, {"fine": 34, "balanced": 28, "small": 22}[preset])
    assert float((decoded - tensor)[tensor != 0].abs().median()) == pytest.approx(step / 4, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_zeros_of_every_dtype_stay_zero(dtype: torch.dtype) -> None:
    tensor = _two_of_four().to(dtype)
    assert bool((encode(tensor).decode()[tensor == 0] == 0).all())
    negative = torch.where(tensor == 0, torch.tensor(-0.0, dtype=dtype), tensor)
    assert bool((encode(negative).decode()[tensor == 0] == 0).all())


def test_zeros_are_worth_bits() -> None:
    sizes = [encode(tensor).nbytes for tensor in (_weights(256, 256), _pruned(0.5)(), _pruned(0.8)())]
    assert sizes[1] < 0.75 * sizes[0]
    assert sizes[2] < 0.5 * sizes[0]


@pytest.mark.parametrize("make", [_pruned(0.5), _two_of_four, _heavy], ids=["pruned", "2:4", "heavy tails"])
def test_zeros_stay_zero_with_error_feedback(make: Callable[[], Tensor]) -> None:
    torch.manual_seed(4)
    tensor = make()
    inputs = torch.randn(500, 256) @ torch.randn(256, 256)
    moments = inputs.T @ inputs
    feedback = feedback_from(moments)
    assert feedback is not None
    plain, fed = (encode_tensor(tensor, "rows", 0.02, given) for given in (None, feedback))
    assert bool((fed.decode()[tensor == 0] == 0).all())
    changes = [float(((tensor - encoded.decode()) @ inputs.T).square().sum()) for encoded in (plain, fed)]
    assert changes[1] < 0.85 * changes[0]  # the other weights still compensate


def test_zeros_by_chance_change_nothing() -> None:
    tensor = _weights(300, 300)
    tensor.view(-1)[[5, 4001, 70_000]] = 0
    pairs = tensor.view(-1, 2)
    assert not has_zeros(pairs)
    assert square_for(pairs, 0.01).lattice == "centred"
    assert spread_of(tensor) == spread(sample_tensor(tensor))
    tensor[9, 10:12] = 0
    assert has_zeros(pairs)
    assert square_for(pairs, 0.01).has_zero


def test_the_spread_of_a_pruned_tensor_is_that_of_its_other_weights() -> None:
    dense, pruned = spread_of(_weights(256, 256)), spread_of(_pruned(0.8)())
    assert pruned.whole == pytest.approx(dense.whole, rel=0.02)
    ones = torch.where(_pruned(0.5)() == 0, 0.0, 1.0)
    assert spread_of(ones) == Spread(pytest.approx(0.7, abs=0.02), pytest.approx(0.7, abs=0.02))


@pytest.mark.parametrize("value", [0.3, -3.0, 1e-3])
def test_where_many_weights_are_equal_they_are_exact(value: float) -> None:
    tensor = _weights(200, 200) + value
    equal = torch.rand(200, 200, generator=torch.Generator().manual_seed(1)) < 0.3
    tensor[equal] = value
    coded = encode_to_step(tensor.view(-1, 2), 0.01)
    assert coded is not None
    decoded = coded[0].decode(coded[1]).view(200, 200)
    assert bool((decoded[equal] == torch.tensor(value)).all())


def test_zeros_far_from_the_other_weights_are_counted_if_they_are_lost() -> None:
    tensor = _weights(500, 200) * 0.01 + 3
    tensor[7, :10] = 0
    encoded = encode_tensor(tensor, "rows", 0.0005)
    assert encoded.codebook is not None
    assert encoded.lost_zeros == int((encoded.decode()[tensor == 0] != 0).sum()) == 10
    assert encoded.snr_db is not None
    assert encoded.snr_db > 70  # and the others do not pay for them


def test_the_published_method_loses_zeros_and_says_so() -> None:
    tensor = _two_of_four()
    encoded = encode(tensor, "birkhoff")
    assert encoded.codebook is not None
    assert encoded.lost_zeros == int((encoded.decode()[tensor == 0] != 0).sum()) > 0
    assert encode(_weights(64, 64), "birkhoff").lost_zeros == 0
