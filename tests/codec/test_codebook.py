from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bhk.codec import codebook as module
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import MAX_REACH, MAX_SIDE, MIN_SIDE, Lattice, float32

_SETTINGS = settings(deadline=None, derandomize=True, max_examples=60)
_PLAIN = Codebook((0.25, -0.5), 0.5, 7)
_SHELLS = Codebook((0.25, -0.5), 0.5, 7, 3, 0.125)


def _random_codes(codebook: Codebook, count: int, seed: int) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    scalars = torch.randint(0, codebook.code_count, (count,), generator=generator)
    return Codes.from_scalars(scalars, codebook.windings, codebook.shells)


@_SETTINGS
@given(st.data(), st.integers(1, 256), st.integers(0, 255))
def test_scalar_codes_and_planes_are_two_forms_of_one_thing(data: st.DataObject, windings: int, shells: int) -> None:
    limit = (shells + 1) * windings**2
    scalars = data.draw(st.lists(st.integers(0, limit - 1), max_size=20))
    codes = Codes.from_scalars(torch.tensor(scalars, dtype=torch.int64), windings, shells)
    assert len(codes) == len(scalars)
    assert codes.winding.tolist() == [code % windings**2 // windings for code in scalars]
    assert codes.phase.tolist() == [code % windings for code in scalars]
    assert (codes.shell is None) == (shells == 0)
    assert codes.shell is None or codes.shell.tolist() == [code // windings**2 for code in scalars]
    assert codes.scalars(windings).tolist() == scalars
    assert codes.scalars(windings).dtype == torch.int32


def _decoded(codebook: Codebook, codes: Codes) -> npt.NDArray[np.float32]:
    """Section 7 of the format in numpy's float32, which rounds every operation once."""
    f32, n, side = np.float32, codebook.windings, codebook.side
    q, r = codes.winding.numpy().astype(np.int64), codes.phase.numpy().astype(np.int64)
    c = np.zeros_like(q) if codes.shell is None else codes.shell.numpy().astype(np.int64)
    k = q * n + r
    pitch_x = f32(side / n**2)
    if codebook.lattice == "grid":
        x, y = ((numbers - n // 2).astype(f32) * f32(side / n) for numbers in (q, r))
    elif codebook.lattice == "centred":
        x = (k.astype(f32) - f32((n**2 - 1) / 2)) * pitch_x
        y = (r.astype(f32) - f32((n - 1) / 2)) * f32(side / n)
    else:
        x = (k.astype(f32) - f32(n**2 / 2)) * pitch_x
        a = k.astype(f32) * f32(n * float(pitch_x))
        y = (a.astype(np.float64) - q * side).astype(f32) - f32(side / 2)
    half = f32(side / 2)
    scale = (half + (c * codebook.spacing).astype(f32)) / half
    cx, cy = map(f32, codebook.centre)
    return np.stack([x * scale + cx, y * scale + cy], axis=1)


_SIDES = st.floats(2.0**-60, 2.0**60, width=32)


@_SETTINGS
@given(
    side=_SIDES,
    windings=st.integers(1, 256),
    shells=st.integers(0, 255),
    spacing=st.floats(2.0**-10, 8, width=16),
    centre=st.tuples(*[st.floats(-8, 8, width=32)] * 2),
    lattice=st.sampled_from(["centred", "corner", "grid"]),
    seed=st.integers(0, 99),
)
def test_codes_decode_as_the_format_says_bit_for_bit(
    side: float, windings: int, shells: int, spacing: float, centre: tuple[float, float], lattice: Lattice, seed: int
) -> None:
    centre = (float32(centre[0] * side), float32(centre[1] * side))
    spacing = float32(spacing * side) if shells else 0.0
    codebook = Codebook(centre, side, windings, shells, spacing, lattice)
    assume(codebook.is_valid)
    codes = _random_codes(codebook, 999, seed)
    expected = _decoded(codebook, codes)
    assert np.isfinite(expected).all()
    decoded = codebook.decode(codes)
    assert decoded.dtype == torch.float32
    assert decoded.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_rounded_from_float32(dtype: torch.dtype) -> None:
    codes = _random_codes(_SHELLS, 77, 1)
    pairs = torch.empty(77, 2, dtype=dtype)
    _SHELLS.decode_into(codes, pairs)
    assert torch.equal(pairs, torch.from_numpy(_decoded(_SHELLS, codes)).to(dtype))


@_SETTINGS
@given(side=_SIDES, windings=st.integers(2, 256), seed=st.integers(0, 99), exhaustive=st.booleans())
def test_pairs_inside_the_square_decode_within_half_a_step(
    side: float, windings: int, seed: int, exhaustive: bool
) -> None:
    codebook = Codebook((float32(side / 3), float32(-side / 7)), side, windings)
    offsets = (torch.rand(777, 2, generator=torch.Generator().manual_seed(seed)) - 0.5) * side
    pairs = offsets + torch.tensor(codebook.centre)
    codes, outside = codebook.encode_square(pairs, exhaustive=exhaustive)
    inside = torch.ones(777, dtype=torch.bool)
    inside[outside] = False
    assert int(inside.sum()) > 770  # rounding of the sum may put one on the edge outside
    error = ((codebook.decode(codes) - pairs).abs() / codebook.step)[inside]
    # The lattice is sheared: a row ends up to a whole step before the square does.
    inner = offsets[inside].abs().amax(dim=1) < side / 2 - codebook.step
    assert float(error.amax()) < 1.001
    if exhaustive:
        # The nearest of all points is never farther than the one half a step away in both directions.
        distance = torch.hypot(error[:, 0], error[:, 1])[inner]
        assert not len(distance) or float(distance.max()) < math.sqrt(0.5) + 0.001
    else:
        assert not int(inner.sum()) or float(error[inner].amax()) < 0.501


def test_the_mean_squared_error_is_a_twelfth_of_the_squared_step() -> None:
    codebook = Codebook((0.0, 0.0), 1.0, 64)
    pairs = (torch.rand(50_001, 2, generator=torch.Generator().manual_seed(2)) - 0.5) * (1 - 2 * codebook.step)
    error = codebook.decode(codebook.encode_square(pairs)[0]) - pairs
    assert float(error.square().mean()) == pytest.approx(codebook.step**2 / 12, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_exactly_the_pairs_beyond_the_square_are_outside(dtype: torch.dtype) -> None:
    pairs = (torch.randn(1001, 2, generator=torch.Generator().manual_seed(4)) * 0.2).to(dtype)
    pairs[::3] += 0.25
    _, outside = _PLAIN.encode_square(pairs)
    far = (pairs.float() - torch.tensor(_PLAIN.centre)).abs().amax(dim=1) > _PLAIN.side / 2
    assert sorted(outside.tolist()) == far.nonzero().view(-1).tolist()
    assert 0 < len(outside) < 1001


@_SETTINGS
@given(windings=st.integers(2, 256), shells=st.sampled_from([1, 2, 3, 7, 15, 255]), seed=st.integers(0, 99))
def test_outliers_decode_within_half_a_step_of_their_shell(windings: int, shells: int, seed: int) -> None:
    pairs = torch.randn(555, 2, generator=torch.Generator().manual_seed(seed)) * 0.7
    square = Codebook((float32(0.1), float32(-0.2)), 0.5, windings)
    _, outside = square.encode_square(pairs)
    outliers = pairs[outside]
    distance = torch.hypot(*(outliers.double() - torch.tensor(square.centre).double()).unbind(dim=1))
    codebook = square.with_shells(shells, float(distance.max()))
    codes = codebook.encode_shells(outliers)
    assert codes.shell is not None
    reach = torch.tensor(codebook.scales).double() * codebook.side / 2
    # Shell c reaches from scale(c - 1) to scale(c) half sides.
    assert bool((distance <= reach[codes.shell.long()] * (1 + 1e-5)).all())
    assert bool((distance >= reach[codes.shell.long() - 1] * (1 - 1e-5)).all())
    step = torch.tensor(codebook.scales)[codes.shell.long(), None] * codebook.step
    offsets = (outliers - torch.tensor(square.centre)).abs().amax(dim=1)
    error = (codebook.decode(codes) - outliers).abs() / step
    inner = offsets < step[:, 0] / codebook.step * codebook.side / 2 - step[:, 0]
    assert float(error.amax()) < 1.001
    assert not int(inner.sum()) or float(error[inner].amax()) < 0.501


@pytest.mark.parametrize("exhaustive", [False, True])
def test_a_farther_pair_than_planned_is_clamped_to_the_last_shell(exhaustive: bool) -> None:
    # The square ends 0.25 off its centre, the shells 0.375, 0.5 and 0.625 off.
    codes = _SHELLS.encode_shells(torch.tensor([[9.0, -0.5], [0.25, -9.0], [0.25, 0.0]]), exhaustive=exhaustive)
    assert codes.shell is not None
    assert codes.shell.tolist() == [3, 3, 2]
    assert codes.winding.tolist()[0] == 6
    assert codes.phase.tolist()[1] == 0


@given(half=st.floats(2.0**-50, 2.0**50, width=32), spacing=st.floats(2.0**-50, 2.0**50, width=32))
@_SETTINGS
def test_scales_are_computed_in_float32(half: float, spacing: float) -> None:
    codebook = Codebook((0.0, 0.0), 2 * half, 5, 9, spacing)
    f32 = np.float32
    expected = [float((f32(half) + f32(c * spacing)) / f32(half)) for c in range(10)]
    assert list(codebook.scales) == expected
    assert codebook.scales[0] == 1


def test_shells_reach_out_to_the_farthest_pair() -> None:
    codebook = _PLAIN.with_shells(3, 1.0)
    assert (codebook.shells, codebook.spacing) == (3, 0.25)
    assert codebook.scales == (1, 2, 3, 4)
    assert codebook.code_count == 4 * 49
    assert codebook.with_shells(0, 1.0) == _PLAIN
    assert _PLAIN.with_shells(7, 1.0).spacing == float(np.float32(0.75 / 7))


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"side": MIN_SIDE, "spacing": MIN_SIDE}, True),
        ({"side": MIN_SIDE / 2}, False),
        ({"side": MAX_SIDE}, True),
        ({"side": MAX_SIDE * 2}, False),
        ({"side": 0.0}, False),
        ({"side": math.nan}, False),
        ({"side": math.inf}, False),
        ({"centre": (MAX_REACH, -MAX_REACH)}, True),
        ({"centre": (0.0, 2 * MAX_REACH)}, False),
        ({"centre": (-math.inf, 0.0)}, False),
        ({"centre": (math.nan, 0.0)}, False),
        ({"centre": (0.0, math.nan)}, False),
        ({"spacing": MAX_REACH / 4}, True),
        ({"spacing": MAX_REACH / 2}, False),
        ({"spacing": math.nan}, False),
        ({"spacing": math.inf}, False),
        ({"side": MIN_SIDE, "spacing": 2.0**28}, False),  # a scale of 2^129 is infinite
    ],
)
def test_only_codebooks_that_the_format_allows_are_valid(change: dict[str, float], valid: bool) -> None:
    assert replace(_SHELLS, **change).is_valid is valid  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 64, 95, 1000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_what_lies_above_a_limit_is_found(size: int, share: float, dtype: torch.dtype) -> None:
    values = (torch.rand(size, generator=torch.Generator().manual_seed(size)) < share).to(dtype) * 3
    found = module._where_above(values, 1)
    assert found.dtype == torch.int64
    assert sorted(found.tolist()) == values.nonzero().view(-1).tolist()


@pytest.mark.parametrize(("block_pairs", "threads"), [(1, 1), (7, 1), (64, 2), (1000, 1), (1 << 17, 2), (1 << 17, 1)])
def test_neither_blocks_nor_threads_change_a_result(
    monkeypatch: pytest.MonkeyPatch, block_pairs: int, threads: int
) -> None:
    # More than one block of work for torch's own threads as well (32,768 elements).
    count = 131_075 if block_pairs > 1000 else 1501
    pairs = torch.randn(count, 2, generator=torch.Generator().manual_seed(6)) * 0.2
    expected = (
        _SHELLS.encode_square(pairs),
        _SHELLS.encode_shells(pairs),
        _decoded(_SHELLS, _random_codes(_SHELLS, count, 6)),
    )
    monkeypatch.setattr(module, "BLOCK_PAIRS", block_pairs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (codes, outside), shells = _SHELLS.encode_square(pairs), _SHELLS.encode_shells(pairs)
        decoded = _SHELLS.decode(_random_codes(_SHELLS, count, 6))
    finally:
        torch.set_num_threads(before)
    assert sorted(outside.tolist()) == sorted(expected[0][1].tolist())
    for name in ("winding", "phase"):
        assert torch.equal(getattr(codes, name), getattr(expected[0][0], name))
        assert torch.equal(getattr(shells, name), getattr(expected[1], name))
    assert shells.shell is not None
    assert expected[1].shell is not None
    assert torch.equal(shells.shell, expected[1].shell)
    assert decoded.numpy().tobytes() == expected[2].tobytes()


def test_encoding_leaves_the_pairs_alone() -> None:
    pairs = torch.randn(333, 2, generator=torch.Generator().manual_seed(8))
    before = pairs.clone()
    _SHELLS.encode_square(pairs)
    _SHELLS.encode_shells(pairs, exhaustive=True)
    assert torch.equal(pairs, before)
