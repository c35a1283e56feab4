"""Choose codebooks and codes: which trajectory for a tensor, and which lattice step.

There are two ways. *Fitted*: a level gives the lattice step, and the square is as large as the tensor needs.
*Published* (preset `birkhoff`): the fixed square and the search order of the public code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bhk.base.errors import OptionError
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import MAX_REACH, Lattice, float32


class PresetError(OptionError):
    """There is no such preset, or no file can have the quality asked for."""


@dataclass(frozen=True)
class Preset:
    """A named quality.

    Attributes:
        name: what it is called.
        level_db: the level of the model's step, or None for the published method. It tells how far step^2 / 12, the power of
            rounding errors, lies below the power of a typical tensor's weights.
    """

    name: str
    level_db: float | None


PRESETS = {
    preset.name: preset
    for preset in (Preset("fine", 34.0), Preset("balanced", 28.0), Preset("small", 22.0), Preset("birkhoff", None))
}
LEVEL_RANGE_DB = (3.0, 42.0)  # above 42 dB a Gaussian tensor no longer fits a square of 256 windings
# Beyond that, too much of a Gaussian lies in shells: it takes 0.1 bits a weight more than its entropy at 44 dB, 0.2 at 45 and
# 0.5 at 46.
CEILING_DB = 45.0
# The model's step serves tensors whose own level it puts within 12 dB of the model's. From 16 dB on, a tensor's scale is so far
# from the model's that its step moves to its own scale; from 28 dB on, it has nothing of the model's but the level. Trained
# models are not affected: of 249 tensors of three models, the farthest is 15.6 dB away, the next 9 dB.
LIMIT_DB = 12.0
OTHER_SCALE_DB = 28.0
# A part of a model that lies this far above its scale, and holds this share of its weights, has a scale of its own, so that a
# majority of tiny weights, as in branches that have decayed, does not make the others fine. The demo SAM has no such part.
PART_DB = 10.0
PART_SHARE = 0.1

SAMPLE_PAIRS = 1 << 16
SAMPLE_RUN = 1 << 10
WINDINGS = (64, 128, 256)
SHELLS = (1, 2, 3, 7, 15)
MORE_SHELLS = (31, 63, 127, 255)
TOO_COARSE = 4.0
MAX_OUTSIDE = 1e-3
ZEROS_BY_CHANCE = 1e-4  # share of zeros in a tensor without structure: of a float16 tensor with a spread of 0.001, 2e-5
CROWD = 0.1  # share of weights that lie on one value; of a Gaussian, 3 % lie as near to its middle at the coarsest step
MAX_UNLIKE = 10.0  # how much wider than its narrow coordinate a tensor may be: one step must suit both

PUBLISHED_SIDE = 0.1
PUBLISHED_WINDINGS = (35, 40)
PUBLISHED_SHELLS = (1, 2, 3)
PUBLISHED_GOOD_MAE = 0.001
PUBLISHED_LAST_MAE = 0.006
PUBLISHED_MIN_NUMEL = 10


def find_preset(name: str) -> Preset:
    """Return the preset called `name`.

    Raises:
        PresetError: there is no such preset.
    """
    if name not in PRESETS:
        raise PresetError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check_snr(snr_db: float) -> float:
    """Return a signal-to-noise ratio in dB if fitted codebooks can reach it.

    Raises:
        PresetError: it is outside LEVEL_RANGE_DB.
    """
    low, high = LEVEL_RANGE_DB
    if not low <= snr_db <= high:
        raise PresetError(f"a signal-to-noise ratio of {snr_db:g} dB was asked for; choose {low:g} to {high:g} dB")
    return snr_db


def sample_size(count: int) -> int:
    """Return how many of `count` pairs `sample` takes."""
    return count if count <= SAMPLE_PAIRS else SAMPLE_PAIRS // SAMPLE_RUN * SAMPLE_RUN


def sample(pairs: Tensor) -> Tensor:
    """Return at most SAMPLE_PAIRS of `pairs` (P, 2) as float32, in evenly spaced runs of SAMPLE_RUN."""
    count = len(pairs)
    if count <= SAMPLE_PAIRS:
        return pairs.to(torch.float32)
    runs = SAMPLE_PAIRS // SAMPLE_RUN
    starts = [round(i * (count - SAMPLE_RUN) / (runs - 1)) for i in range(runs)]
    return torch.cat([pairs[start : start + SAMPLE_RUN] for start in starts]).to(torch.float32)


def sample_tensor(tensor: Tensor) -> Tensor:
    """Return a sample of the pairs of `tensor`, float32 (P, 2); see `sample`."""
    return sample(_flat_pairs(tensor))


def _flat_pairs(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[: flat.numel() // 2 * 2].view(-1, 2)


@dataclass(frozen=True)
class Spread:
    """Root mean square distances of weights from their middle, in weight units; 0 if they are all equal.

    Attributes:
        whole: that of all weights.
        narrow: that of the first or the second weights of pairs, whichever is smaller and not 0.
    """

    whole: float
    narrow: float


def has_zeros(pairs: Tensor) -> bool:
    """Tell whether zeros among `pairs` (P, 2) mean something: pruned weights, dead channels, padding.

    They do if both weights of a pair are zero, or if there are more than chance gives, which in half precision gives a few.
    """
    count = pairs.numel() - int(pairs.count_nonzero())
    return count > ZEROS_BY_CHANCE * pairs.numel() or (count > 1 and bool((pairs == 0).all(dim=1).any()))


def spread(pairs: Tensor, *, zeros: bool = True) -> Spread:
    """Return how far `pairs` (P, 2) lie from their median, as a square around it sees them.

    The farthest 0.1 % of the weights do not count, so that a few outliers do not dominate, unless all others are equal; nor do
    pairs with NaN or infinity. Unless `zeros` is true, zeros do not count either, and the mean replaces the median, which need
    not be in the middle of weights from which all small ones were pruned.
    """
    finite = pairs[pairs.isfinite().all(dim=1)].T
    columns = [column if zeros else column[column != 0] for column in finite]
    distances = [
        (column - (column.median() if zeros else column.mean())).abs_() for column in columns if column.numel()
    ]
    if not distances:
        return Spread(0.0, 0.0)
    flat = torch.cat(distances)
    farthest = float(flat.kthvalue(math.ceil((1 - MAX_OUTSIDE) * len(flat))).values) or math.inf
    narrow = filter(None, (_root_mean_square(column[column <= farthest]) for column in distances))
    return Spread(_root_mean_square(flat[flat <= farthest]), min(narrow, default=0.0))


def _root_mean_square(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def spread_of(tensor: Tensor) -> Spread:
    """Return the spread of a sample of `tensor`, or of all its weights if those of the sample are equal.

    Zeros that mean something cost no error, so they do not count unless all other weights are equal.
    """
    pairs = _flat_pairs(tensor)
    drawn = sample(pairs)
    if has_zeros(pairs) and (found := spread(drawn, zeros=False)).whole:
        return found
    found = spread(drawn)
    if found.whole or torch.equal(pairs, pairs[:1].expand_as(pairs)):
        return found
    return spread(pairs)


def model_scale(scales: Iterable[tuple[float, int]]) -> float:
    """Return the robust scale of a model: the weighted median over (spread, number of weights) of its tensors."""
    known = sorted((scale, weight) for scale, weight in scales if scale > 0)
    half = sum(weight for _, weight in known) / 2
    passed = 0
    for scale, weight in known:
        passed += weight
        if passed >= half:
            return scale
    return 0.0


def upper_scale(scales: Iterable[tuple[float, int]], model: float) -> float:
    """Return the robust scale of the part of a model that lies PART_DB above its scale `model`; 0 if there is no such part.

    Args:
        scales: (spread, number of weights) of the tensors.
    """
    known = [(scale, weight) for scale, weight in scales if scale > 0]
    upper = [(scale, weight) for scale, weight in known if scale >= model * 10 ** (PART_DB / 20)]
    is_part = sum(weight for _, weight in upper) >= PART_SHARE * sum(weight for _, weight in known) > 0
    return model_scale(upper) if is_part else 0.0


def step_for(scale: float, level_db: float) -> float:
    """Return the lattice step whose error step^2 / 12 is `level_db` below the power scale^2."""
    return scale * math.sqrt(12) * 10 ** (-level_db / 20)


def tensor_step(model: float, own: Spread, level_db: float) -> float:
    """Return the step of a tensor at a level of the model, whose scale is `model`.

    It is the model's step, within limits: the tensor's own level stays near the model's, so that no tensor is destroyed, nor
    finer than codes can be. A tensor of quite another scale, as a barely trained adapter is, has the model's level.
    """
    step = step_for(model, level_db)
    if not own.whole:
        return step
    away_db = abs(20 * math.log10(own.whole / model))
    limit_db = min(LIMIT_DB, max(OTHER_SCALE_DB - away_db, 0.0))
    finest = step_for(own.whole, min(level_db + limit_db, CEILING_DB))
    coarsest = step_for(own.narrow, max(level_db - limit_db, LEVEL_RANGE_DB[0]))
    return min(max(step, finest), coarsest)


def square_for(pairs: Tensor, step: float) -> Codebook:
    """Return the codebook of lattice step `step` that suits `pairs` (P, 2), P >= 1, without shells.

    The centre is the median of a sample of the pairs, rounded to at most half a step. The windings are the fewest of 64, 128
    and 256 that leave at most 0.1 % of the sample outside the square. A tensor that is constant to float32's precision has one
    winding, whose only point is the centre. Where zeros mean something, or many weights are equal, the lattice is a grid with a
    point on them.
    """
    drawn = sample(pairs)
    first = drawn[0].to(pairs.dtype)
    if bool((drawn == drawn[0]).all()) and bool(torch.isclose(pairs, first, rtol=2.0**-23, atol=0).all()):
        x, y = drawn[0].tolist()
        return Codebook((x, y), side=1.0, windings=1)
    middle = drawn.median(dim=0).values
    if has_zeros(pairs):
        return _square_with_zero(drawn, middle, step)
    if float(((drawn - middle).abs_() < step / 64).float().mean()) > CROWD:
        return _square_around(drawn, middle, step, "grid")[0]
    return _square_around(drawn, _rounded(middle, step), step, "centred")[0]


def _square_around(drawn: Tensor, centre: Tensor, step: float, lattice: Lattice) -> tuple[Codebook, float]:
    """Return the square around `centre`, and the share of the pairs `drawn` (P, 2) that lie outside it."""
    reach = (drawn - centre).abs_().amax(dim=1)
    for windings in WINDINGS:
        outside = float((reach > windings * step / 2).float().mean())
        if outside <= MAX_OUTSIDE:
            break
    x, y = centre.tolist()
    return Codebook((x, y), side=float32(windings * step), windings=windings, lattice=lattice), outside


def _square_with_zero(drawn: Tensor, middle: Tensor, step: float) -> Codebook:
    """Return a square whose grid has a point at zero.

    Around zero, that holds in all shells, too. Weights that lie too far from it get a square around their median, rounded to a
    whole number of steps, in which zero has a point if it is inside.
    """
    square, outside = _square_around(drawn, torch.zeros_like(middle), step, "grid")
    near, outside_near = _square_around(drawn, middle, step, "grid")
    if outside - outside_near <= MAX_OUTSIDE or not near.is_valid:
        return square
    pitch = square.trajectory.pitch_y
    x, y = (float32(round(value / pitch) * pitch) for value in middle.tolist())
    return replace(near, centre=(x, y))


def _rounded(middle: Tensor, step: float) -> Tensor:
    """Return a centre, float32 (2,), rounded to at most half a step.

    A centre that is off by a quarter of a step adds less than the lattice's own error to any weight. Most centres become
    (0, 0), which is shorter in the header, and layers of one step share a codebook. That saves 0.4 % of a small file at 28 dB
    and 0.7 % at 9 dB.
    """
    unit = math.ldexp(0.25, math.frexp(step)[1])
    return (middle.double().div_(unit).round_().mul_(unit) + 0.0).float()  # + 0.0: no negative zero


def encode_to_step(pairs: Tensor, step: float) -> tuple[Codebook, Codes] | None:
    """Choose a codebook of lattice step `step` for `pairs` (P, 2), and their codes; None if no valid codebook fits.

    None fits if the first weights of pairs are spread ten times as wide as the second, or the other way round. Outliers are
    coded in shells. If a shell is far too coarse for a pair, as happens when another pair lies a hundred times farther out, the
    square grows first.
    """
    if _is_lopsided(sample(pairs)):
        return None
    square = square_for(pairs, step)
    while square.is_valid:
        codes, outside = square.encode_square(pairs)
        if not outside.numel():
            return square, codes
        coded = _choose_shells(square, pairs[outside].to(torch.float32))
        if coded is not None:
            return coded[0], _merge(codes, outside, coded[1])
        if square.windings == WINDINGS[-1]:
            return None
        windings = next(n for n in WINDINGS if n > square.windings)
        square = replace(square, windings=windings, side=float32(windings * step))
    return None


def _is_lopsided(drawn: Tensor) -> bool:
    """Tell whether one coordinate of pairs (P, 2) is spread far wider than the other, which is not constant.

    Zeros do not count: they lie on a step of any length.
    """
    some = drawn[:: max(1, len(drawn) >> 12)].T
    columns = [column[column != 0] for column in some]
    # Medians, because outliers do not count.
    widths = [float((column - column.median()).abs_().median()) for column in columns if column.numel()]
    return bool(widths) and 0 < min(widths) * MAX_UNLIKE < max(widths)


def _choose_shells(square: Codebook, outliers: Tensor) -> tuple[Codebook, Codes] | None:
    """Return the codebook with 1, 2, 3, 7 or 15 shells of least squared error, and the codes of `outliers` (P, 2).

    If a pair's shell is TOO_COARSE times larger than its distance calls for, up to 255 shells are tried. Returns None if that
    does not help.
    """
    farthest = _farthest(outliers, square)
    if not square.with_shells(1, farthest).is_valid:
        return None
    distances = torch.hypot(
        *(outliers - torch.tensor(square.centre, dtype=torch.float32, device=outliers.device)).unbind(dim=1)
    )

    def trial(shells: int) -> tuple[float, bool, Codebook, Codes]:
        codebook = square.with_shells(shells, farthest)
        coded = codebook.encode_shells(outliers)
        assert coded.shell is not None
        error = float((codebook.decode(coded) - outliers).double().square_().sum())
        reach = torch.tensor(codebook.scales, dtype=torch.float32, device=outliers.device)[coded.shell.long()] * (
            square.side / 2
        )
        return error, bool((reach > TOO_COARSE * distances).any()), codebook, coded

    _, coarse, codebook, coded = min((trial(shells) for shells in SHELLS), key=lambda tried: tried[0])
    for shells in MORE_SHELLS:
        if not coarse:
            break
        _, coarse, codebook, coded = trial(shells)
    return None if coarse else (codebook, coded)


def encode_published(pairs: Tensor) -> tuple[Codebook, Codes] | None:
    """Code `pairs` (P, 2) as the public code does; None if that code stores the tensor raw.

    As in the public code, padding weights count in the mean absolute error that decides.
    """
    centre = pairs.mean(dim=0, dtype=torch.float32)
    if not bool(pairs.to(torch.float32).abs().amax() < MAX_REACH):
        return None
    for windings in PUBLISHED_WINDINGS:  # the last one is used, whatever its error
        square = Codebook((float(centre[0]), float(centre[1])), float32(PUBLISHED_SIDE), windings, lattice="corner")
        mae, codebook, codes = _published_shells(square, pairs)
        if mae <= PUBLISHED_GOOD_MAE:
            break
    return (codebook, codes) if mae <= PUBLISHED_LAST_MAE else None


def _published_shells(square: Codebook, pairs: Tensor) -> tuple[float, Codebook, Codes]:
    """Return mean absolute error, codebook and codes, with as many shells as the public code chooses."""
    codes, outside = square.encode_square(pairs, exhaustive=True)
    errors = (square.decode(codes) - pairs).abs_()
    if not outside.numel():
        return float(errors.mean(dtype=torch.float64)), square, codes
    inside = float(errors.index_fill_(0, outside, 0).sum(dtype=torch.float64))
    outliers = pairs[outside].to(torch.float32)
    best: tuple[float, Codebook, Codes] | None = None
    for shells in PUBLISHED_SHELLS:
        codebook = square.with_shells(shells, _farthest(outliers, square))
        coded = codebook.encode_shells(outliers, exhaustive=True)
        beyond = float((codebook.decode(coded) - outliers).abs_().sum(dtype=torch.float64))
        mae = (inside + beyond) / pairs.numel()
        if best is None or mae <= best[0]:
            best = mae, codebook, coded
        if mae <= PUBLISHED_GOOD_MAE:
            break
    assert best is not None
    return best[0], best[1], _merge(codes, outside, best[2])


def _farthest(outliers: Tensor, codebook: Codebook) -> float:
    offsets = outliers - torch.tensor(codebook.centre, dtype=torch.float32, device=outliers.device)
    return float(torch.hypot(offsets[:, 0], offsets[:, 1]).max())


def _merge(codes: Codes, outside: Tensor, coded: Codes) -> Codes:
    """Return `codes` with a plane of shells, and with the codes at the indices `outside` replaced by `coded`."""
    assert coded.shell is not None
    return replace(
        codes,
        winding=codes.winding.index_copy(0, outside, coded.winding),
        phase=codes.phase.index_copy(0, outside, coded.phase),
        shell=torch.zeros_like(codes.winding).index_copy_(0, outside, coded.shell),
    )
