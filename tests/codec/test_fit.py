from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.error import measure
from bhk.codec.fit import (
    LEVEL_RANGE_DB,
    MAX_OUTSIDE,
    MORE_SHELLS,
    SAMPLE_PAIRS,
    SHELLS,
    WINDINGS,
    PresetError,
    Spread,
    check_snr,
    encode_published,
    encode_to_step,
    find_preset,
    model_scale,
    sample,
    sample_tensor,
    spread,
    square_for,
    step_for,
    tensor_step,
)
from bhk.codec.shape import Shape
from bhk.codec.tensor import encode


def _gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def _heavy(count: int, seed: int = 0) -> torch.Tensor:
    """Pairs of Student's t with three degrees of freedom."""
    generator = torch.Generator().manual_seed(seed)
    chi = torch.randn(3, count, 2, generator=generator).square().mean(dim=0)
    return torch.randn(count, 2, generator=generator) / chi.sqrt()


@pytest.mark.parametrize(("name", "level"), [("fine", 34.0), ("balanced", 28.0), ("small", 22.0), ("birkhoff", None)])
def test_presets_are_found_by_name(name: str, level: float | None) -> None:
    assert find_preset(name).level_db == level


@pytest.mark.parametrize("name", ["", "Fine", "best"])
def test_an_unknown_preset_lists_the_known(name: str) -> None:
    with pytest.raises(PresetError, match="fine, balanced, small, birkhoff"):
        find_preset(name)


@pytest.mark.parametrize("snr", [2.9, 42.1, -1.0, math.nan, math.inf])
def test_a_ratio_out_of_range_is_refused(snr: float) -> None:
    with pytest.raises(PresetError, match="choose 3 to 42 dB"):
        check_snr(snr)
    assert [check_snr(limit) for limit in LEVEL_RANGE_DB] == [3.0, 42.0]


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ([], 0.0),
        ([(0.0, 1000)], 0.0),
        ([(0.5, 1)], 0.5),
        ([(9.0, 1), (1.0, 5), (2.0, 3)], 1.0),
        ([(9.0, 1), (1.0, 3), (2.0, 5)], 2.0),
        ([(0.0, 1000), (3.0, 2), (7.0, 1)], 3.0),  # a tensor of zeros has no say
        ([(1e9, 49), (1.0, 50), (2.0, 1)], 1.0),  # nor is one odd tensor heard beyond its weight
    ],
)
def test_the_scale_of_a_model_is_the_weighted_median(scales: list[tuple[float, int]], expected: float) -> None:
    assert model_scale(scales) == expected


@settings(derandomize=True)
@given(st.lists(st.tuples(st.floats(1e-9, 1e9), st.integers(1, 1 << 40)), min_size=1))
def test_half_of_the_weights_lie_on_either_side_of_the_scale(scales: list[tuple[float, int]]) -> None:
    scale, half = model_scale(scales), sum(weight for _, weight in scales) / 2
    assert sum(weight for rms, weight in scales if rms <= scale) >= half
    assert sum(weight for rms, weight in scales if rms >= scale) >= half


def test_the_spread_passes_over_what_is_not_finite() -> None:
    pairs = [[3.0, 1.0], [math.nan, 5.0], [-4.0, 1.0], [2.0, math.inf]]
    assert spread(torch.tensor(pairs)) == Spread(math.sqrt(49 / 4), math.sqrt(49 / 2))
    assert spread(torch.tensor([[math.nan, 1.0]])) == spread(torch.empty(0, 2)) == Spread(0.0, 0.0)
    assert spread(torch.tensor([[7.0, 7.0]])) == Spread(0.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("middle", [(3.0, 3.0), (-8.0, 16.0)])
def test_the_spread_is_the_standard_deviation_without_outliers(dtype: torch.dtype, middle: tuple[float, float]) -> None:
    pairs = _gaussian(6001, 2)
    pairs[::3000] = 1e4  # 0.05 % of them
    found = spread((pairs * 2 + torch.tensor(middle)).to(dtype))
    assert (found.whole, found.narrow) == (pytest.approx(2.0, rel=0.03), pytest.approx(2.0, rel=0.03))
    assert spread(pairs.double() * 1e30).whole == pytest.approx(1e30, rel=0.03)


def test_the_narrow_spread_is_that_of_the_narrower_coordinate_that_varies() -> None:
    pairs = _gaussian(6001, 2) * torch.tensor([0.5, 4.0])
    assert spread(pairs).narrow == pytest.approx(0.5, rel=0.03)
    pairs[:, 0] = 0.5
    assert spread(pairs).narrow == pytest.approx(4.0, rel=0.03)


def test_few_weights_that_differ_from_the_rest_have_a_spread() -> None:
    pairs = torch.zeros(5000, 2)
    pairs[7, 1] = 3.0
    assert spread(pairs) == Spread(pytest.approx(0.03), pytest.approx(3 / math.sqrt(5000)))


@pytest.mark.parametrize("snr", [6.0, 10.0, 16.0, 22.0, 28.0, 34.0, 41.0])
@pytest.mark.parametrize("scale", [1.0, 3e-3])
def test_a_step_gives_the_ratio_asked_for(snr: float, scale: float) -> None:
    pairs = _gaussian(20_001, 2) * scale
    coded = encode_to_step(pairs, step_for(spread(pairs).whole, snr))
    assert coded is not None
    assert measure(pairs, Shape((20_001, 2), "rows"), *coded).snr_db == pytest.approx(snr, abs=0.3)


def _step(scale: float, level_db: float = 28.0, narrow: float = 1.0) -> float:
    return tensor_step(1.0, Spread(scale, scale * narrow), level_db)


def _db(decibels: float) -> float:
    return float(10 ** (decibels / 20))


def test_the_step_of_the_model_serves_tensors_of_like_scale() -> None:
    step = step_for(1.0, 28.0)
    assert _step(1.0) == _step(_db(11.9)) == _step(_db(-11.9)) == _step(0.0) == step
    assert _step(1.0, narrow=_db(-11.9)) == step


@pytest.mark.parametrize(
    ("away_db", "level_db", "own_db"),
    [
        (-14.0, 28.0, 16.0),  # no tensor is destroyed
        (-14.0, 8.0, 3.0),
        (14.0, 28.0, 40.0),  # nor is any far too fine
        (9.0, 42.0, 45.0),
        (-22.0, 28.0, 22.0),  # farther away, the step of the model says less and less
        (22.0, 28.0, 34.0),
        (-28.0, 28.0, 28.0),
        (28.0, 28.0, 28.0),
        (-90.0, 28.0, 28.0),
        (90.0, 28.0, 28.0),
    ],
)
def test_the_level_of_a_tensor_stays_near_that_of_the_model(away_db: float, level_db: float, own_db: float) -> None:
    assert _step(_db(away_db), level_db) == pytest.approx(step_for(_db(away_db), own_db), rel=1e-9)


def test_the_narrower_coordinate_is_not_destroyed() -> None:
    assert _step(1.0, narrow=0.2) == step_for(0.2, 16.0)


@pytest.mark.parametrize("means", [(3.0, 0.0), (-0.5, 0.5)])
def test_columns_of_different_means_keep_what_varies(means: tuple[float, float]) -> None:
    middle = torch.tensor(means)
    tensor = _gaussian(3000, 2) * 0.01 + middle
    decoded = encode(tensor).decode()
    signal, noise = (tensor - middle).square().mean(dim=0), (decoded - tensor).square().mean(dim=0)
    assert bool((10 * (signal / noise).log10() > 27).all())


def test_coordinates_that_no_step_suits_both_are_kept_exact() -> None:
    pairs = _gaussian(3000, 2)
    pairs[7, 0] = 500.0  # an outlier makes no difference
    assert encode_to_step(pairs * torch.tensor([1.0, 9.0]), 0.1) is not None
    assert encode_to_step(pairs * torch.tensor([1.0, 0.0]), 0.1) is not None
    assert encode_to_step(pairs * torch.tensor([1.0, 12.0]), 0.1) is None
    assert encode_to_step(pairs * torch.tensor([12.0, 1.0]), 0.1) is None
    assert encode(torch.stack([pairs[:, 0], pairs[:, 1] * 12], dim=1)).note.startswith("holds values")


@pytest.mark.parametrize("zeros", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("value", [0.0, -3.0])
def test_where_many_weights_are_equal_a_point_lies_on_them(zeros: float, value: float) -> None:
    pairs = _gaussian(20_001, 2)
    generator = torch.Generator().manual_seed(1)
    pairs[torch.rand(pairs.shape, generator=generator) < zeros] = 0
    coded = encode_to_step(pairs + value, 0.3)
    assert coded is not None
    decoded = coded[0].decode(coded[1]) - value
    both = (pairs == 0).all(dim=1)
    assert bool((decoded[both].abs() <= (0.0 if value == 0 else 1e-6)).all())
    # A point lies on the second weight of any pair; along the first, points are sheared by a step over all windings.
    assert float(decoded[pairs == 0].square().mean()) < 0.01 * 0.3**2
    assert float((decoded - pairs)[pairs != 0].square().mean()) == pytest.approx(0.3**2 / 12, rel=0.05)


def test_a_sample_is_spread_over_the_whole_tensor() -> None:
    few = _gaussian(SAMPLE_PAIRS, 2).half()
    assert torch.equal(sample(few), few.float())
    count = 10 * SAMPLE_PAIRS + 77
    drawn = sample(torch.arange(2 * count, dtype=torch.float64).view(count, 2))
    assert drawn.shape == (SAMPLE_PAIRS, 2)
    assert drawn.dtype == torch.float32
    assert (drawn[0].tolist(), drawn[-1].tolist()) == ([0, 1], [2 * count - 2, 2 * count - 1])
    assert bool((drawn[:, 0].diff() > 0).all())
    assert float(drawn[:, 0].diff().max()) < 2.1 * 10 * 1024


@pytest.mark.parametrize("dims", [(7, 3), (5,), (2, 3, 5), (1000, 1000)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_sample_holds_pairs_of_the_tensor(dims: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.arange(math.prod(dims)).reshape(dims).to(dtype).requires_grad_()
    drawn = sample_tensor(tensor)
    assert drawn.dtype == torch.float32
    assert not drawn.requires_grad
    assert len(drawn) == min(tensor.numel() // 2, SAMPLE_PAIRS)
    if dtype == torch.float64:
        assert bool((drawn[:, 0] % 2 == 0).all())
        assert torch.equal(drawn[:, 0] + 1, drawn[:, 1])


@pytest.mark.parametrize("steps_a_sigma", [3.0, 7.0, 11.0, 15.0, 25.0, 31.0, 50.0, 200.0])
def test_the_square_has_the_fewest_windings_that_leave_little_outside(steps_a_sigma: float) -> None:
    pairs = _gaussian(40_001, 2) + 0.5
    step = 1 / steps_a_sigma
    codebook = square_for(pairs, step)
    assert codebook.windings in WINDINGS
    assert codebook.lattice == "centred"
    assert (codebook.shells, codebook.spacing) == (0, 0.0)
    assert codebook.step == pytest.approx(step, rel=1e-6)
    assert codebook.centre == pytest.approx(pairs.median(dim=0).values.tolist(), abs=step / 4)

    def share_outside(windings: int) -> float:
        reach = (pairs - torch.tensor(codebook.centre)).abs().amax(dim=1)
        return float((reach > windings * step / 2).double().mean())

    fitting = [windings for windings in WINDINGS if share_outside(windings) <= MAX_OUTSIDE]
    assert codebook.windings == (fitting[0] if fitting else WINDINGS[-1])


def test_all_three_squares_occur() -> None:
    pairs = _gaussian(10_001, 2)
    assert [square_for(pairs, 1 / steps).windings for steps in (7, 15, 30, 100)] == [64, 128, 256, 256]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
@pytest.mark.parametrize("step", [0.0, 1.0, 1e-9])
def test_a_constant_needs_one_point(dtype: torch.dtype, value: float, step: float) -> None:
    pairs = torch.full((100, 2), value, dtype=dtype)
    coded = encode_to_step(pairs, step)
    assert coded is not None
    codebook, codes = coded
    assert (codebook.windings, codebook.shells) == (1, 0)
    assert torch.equal(codebook.decode(codes), pairs.float())


def test_a_single_pair_is_its_own_centre() -> None:
    pairs = torch.tensor([[0.3, -7e5]])
    coded = encode_to_step(pairs, 0.01)
    assert coded is not None
    assert torch.equal(coded[0].decode(coded[1]), pairs)


def test_a_tensor_that_only_a_sample_takes_for_constant_is_not() -> None:
    pairs = torch.zeros(3 * SAMPLE_PAIRS, 2)
    pairs[1500] = 1.0
    assert bool((sample(pairs) == 0).all())
    coded = encode_to_step(pairs, 0.01)
    assert coded is not None
    assert float((coded[0].decode(coded[1]) - pairs).abs().amax()) < 0.02


def test_without_outliers_there_are_no_shells() -> None:
    coded = encode_to_step(_gaussian(101, 2).clamp(-2, 2), 0.125)
    assert coded is not None
    assert coded[0].shells == 0
    assert coded[1].shell is None


def _errors_of_shells(square: Codebook, outliers: torch.Tensor) -> dict[int, tuple[float, bool]]:
    """Squared error of the outliers for each number of shells, and whether one lies in a shell four times too coarse."""
    distances = (outliers - torch.tensor(square.centre)).double().norm(dim=1)
    errors = {}
    for shells in (*SHELLS, *MORE_SHELLS):
        codebook = square.with_shells(shells, float(distances.max()))
        codes = codebook.encode_shells(outliers)
        assert codes.shell is not None
        reach = torch.tensor(codebook.scales).double()[codes.shell.long()] * square.side / 2
        error = float((codebook.decode(codes) - outliers).double().square().sum())
        errors[shells] = error, bool((reach > 4 * distances).any())
    return errors


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 2.0**-80, 2.0**80])
def test_shells_are_chosen_by_the_smallest_squared_error(seed: int, scale: float) -> None:
    pairs = _heavy(4001, seed) * scale
    coded = encode_to_step(pairs, 0.01 * scale)
    assert coded is not None
    codebook, codes = coded
    assert codebook.windings == 256
    square = codebook.with_shells(0, 0.0)
    outside = square.encode_square(pairs)[1]
    errors = _errors_of_shells(square, pairs[outside])
    best = min(SHELLS, key=lambda shells: errors[shells][0])
    fine = [shells for shells in (best, *MORE_SHELLS) if not errors[shells][1]]
    assert codebook.shells == fine[0]
    farthest = float((pairs - torch.tensor(codebook.centre)).double().norm(dim=1).max())
    assert codebook.spacing == pytest.approx((farthest - codebook.side / 2) / codebook.shells, rel=1e-5)
    assert codes.shell is not None
    assert sorted(codes.shell.nonzero().view(-1).tolist()) == sorted(outside.tolist())
    error = (codebook.decode(codes) - pairs)[outside].double().square().sum()
    assert float(error) == pytest.approx(errors[codebook.shells][0], rel=1e-3)


@pytest.mark.parametrize(
    ("far", "windings", "shells"),
    [
        ([5.0], 64, SHELLS),
        ([5.0, 300.0], 64, MORE_SHELLS),
        ([5.0, 6000.0], 128, SHELLS),
        ([5.0, 9.0, 17.0, 2e6], 0, ()),
    ],
)
def test_an_outlier_does_not_make_the_rest_coarse(far: list[float], windings: int, shells: tuple[int, ...]) -> None:
    """With another pair a hundred times farther out, one just outside the square would get into a far larger shell."""
    pairs = _gaussian(9001, 2).clamp(-3.9, 3.9)
    pairs[: len(far), 0] = torch.tensor(far)
    coded = encode_to_step(pairs, 1 / 8)
    if not windings:
        assert coded is None
        return
    assert coded is not None
    codebook, codes = coded
    assert codebook.windings == windings
    assert codebook.shells in shells
    distances = (pairs - torch.tensor(codebook.centre)).norm(dim=1)
    # Half a step of a shell that reaches out four times as far, or of the square.
    allowed = (4 * distances / (codebook.side / 2)).clamp(min=1) * codebook.step
    assert bool(((codebook.decode(codes) - pairs).abs().amax(dim=1) < allowed).all())


@pytest.mark.parametrize("step", [0.0, 1e-35, 1e35, math.inf, math.nan])
def test_no_codebook_comes_of_a_step_beyond_its_range(step: float) -> None:
    assert encode_to_step(_gaussian(101, 2), step) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("column", [0, 1])
def test_no_codebook_reaches_what_is_not_finite(value: float, column: int) -> None:
    pairs = _gaussian(101, 2)
    pairs[7, column] = value
    assert encode_to_step(pairs, 0.1) is None
    assert encode_published(pairs) is None


def _published(pairs: torch.Tensor) -> tuple[int, int, torch.Tensor] | None:
    """The published method, every pair measured against every point: windings, shells and codes; None when kept raw."""
    centre = pairs.mean(dim=0)
    best = None
    for windings in (35, 40):
        square = Codebook((float(centre[0]), float(centre[1])), float(torch.tensor(0.1)), windings, lattice="corner")
        steps = torch.arange(windings**2)
        points = square.decode(Codes.from_scalars(steps, windings, 0)) - centre
        offsets = pairs - centre
        distance = offsets.norm(dim=1)
        outer = offsets.abs().amax(dim=1) > square.side / 2
        best = None
        for shells in (1, 2, 3) if bool(outer.any()) else (0,):
            shell, scale = torch.zeros(len(pairs), dtype=torch.int64), torch.ones(len(pairs))
            if shells:
                spacing = (float(distance[outer].max()) - square.side / 2) / shells
                ring = ((distance - square.side / 2) / spacing).ceil().clamp(1, shells)
                shell[outer] = ring[outer].long()
                scale = 1 + shell * spacing / (square.side / 2)
            inner = offsets / scale[:, None]
            nearest = torch.cdist(inner.double(), points.double()).argmin(dim=1)
            mae = float((points[nearest] * scale[:, None] - offsets).abs().double().mean())
            if best is None or mae <= best[0]:
                best = mae, windings, shells, shell * windings**2 + nearest
            if mae <= 0.001:
                break
        assert best is not None
        if best[0] <= 0.001:
            break
    assert best is not None
    return best[1:] if best[0] <= 0.006 else None


@pytest.mark.parametrize(
    ("pairs", "windings"),
    [
        (_gaussian(1001, 2) * 0.003, 35),
        (_gaussian(1001, 2) * 0.02 + 0.4, 35),
        (_gaussian(1001, 2) * 0.05, 40),
        (_gaussian(501, 2) * 0.1, 40),
        (_heavy(1001) * 0.01, 35),
        (_heavy(333, 3) * 0.05, 40),
        (torch.full((7, 2), 0.25), 35),
        (torch.tensor([[0.0, 0.0], [0.2, 0.0]]), 40),
        (_gaussian(501, 2) * 0.3, None),
        (_gaussian(501, 2) * 2.0, None),
    ],
)
def test_the_published_method_by_brute_force(pairs: torch.Tensor, windings: int | None) -> None:
    expected, found = _published(pairs), encode_published(pairs)
    if windings is None:
        assert (expected, found) == (None, None)
        return
    assert expected is not None
    assert found is not None
    codebook, codes = found
    assert (codebook.windings, codebook.shells) == expected[:2]
    assert codebook.windings == windings
    assert codebook.lattice == "corner"
    # A pair half-way between two points may fall to either, but never to a farther one.
    reference = codebook.decode(Codes.from_scalars(expected[2], windings, codebook.shells))
    distance = (codebook.decode(codes) - pairs).norm(dim=1)
    assert float((distance - (reference - pairs).norm(dim=1)).abs().max()) < 1e-6


@pytest.mark.parametrize(("thirds", "shells"), [(2236963, 1), (3236963, 3)])
def test_of_equal_numbers_of_shells_the_last_tried_wins(thirds: int, shells: int) -> None:
    """All outliers as far as the farthest: every number of shells decodes to the same. Good enough ends the search."""
    far = float(torch.tensor(0.1)) / 2 + 3 * thirds * 2.0**-28  # chosen so that every spacing is exact in float32
    found = encode_published(torch.tensor([[far, 0.0], [-far, 0.0]]))
    assert found is not None
    assert (found[0].windings, found[0].shells) == (40, shells)
