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
from bhk.codec.trajectory import MAX_REACH, float32


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
LEVEL_FLOOR_DB = 12.0  # no tensor may fall this far below the model's level

SAMPLE_PAIRS = 1 << 16
SAMPLE_RUN = 1 << 10
WINDINGS = (64, 128, 256)
SHELLS = (1, 2, 3, 7, 15)
MORE_SHELLS = (31, 63, 127, 255)
TOO_COARSE = 4.0
MAX_OUTSIDE = 1e-3

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
    flat = tensor.detach().reshape(-1)
    return sample(flat[: flat.numel() // 2 * 2].view(-1, 2))


def spread(values: Tensor) -> float:
    """Return the root mean square distance of `values` from their median, in weight units; 0 if no value is finite.

    The farthest 0.1 % do not count, so that a few outliers do not dominate; nor do NaN and infinity.
    """
    finite = values[values.isfinite()].double().view(-1)
    if not finite.numel():
        return 0.0
    distances = (finite - finite.median()).abs_()
    farthest = distances.kthvalue(math.ceil((1 - MAX_OUTSIDE) * len(distances))).values
    return float(distances[distances <= farthest].square_().mean().sqrt())


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


def step_for(scale: float, level_db: float) -> float:
    """Return the lattice step whose error step^2 / 12 is `level_db` below the power scale^2."""
    return scale * math.sqrt(12) * 10 ** (-level_db / 20)


def tensor_step(step: float, scale: float, level_db: float) -> float:
    """Return the step of a tensor of spread `scale`: the model's, or a finer one that keeps it above the floor."""
    return min(step, step_for(scale, max(level_db - LEVEL_FLOOR_DB, LEVEL_RANGE_DB[0]))) if scale > 0 else step


def square_for(pairs: Tensor, step: float) -> Codebook:
    """Return the codebook of lattice step `step` that suits `pairs` (P, 2), P >= 1, without shells.

    The centre is the median of a sample of the pairs, rounded to at most half a step. The windings are the fewest of 64, 128
    and 256 that leave at most 0.1 % of the sample outside the square. A tensor that is constant to float32's precision has one
    winding, whose only point is the centre.
    """
    drawn = sample(pairs)
    first = drawn[0].to(pairs.dtype)
    if bool((drawn == drawn[0]).all()) and bool(torch.isclose(pairs, first, rtol=2.0**-23, atol=0).all()):
        x, y = drawn[0].tolist()
        return Codebook((x, y), side=1.0, windings=1)
    # A centre that is off by a quarter of a step adds less than the lattice's own error to any weight. Most centres become
    # (0, 0), which is shorter in the header, and layers of one step share a codebook. That saves 0.4 % of a small file at 28 dB
    # and 0.7 % at 9 dB.
    unit = math.ldexp(0.25, math.frexp(step)[1])
    x, y = (
        drawn.median(dim=0).values.double().div_(unit).round_().mul_(unit) + 0.0
    ).tolist()  # + 0.0: no negative zero
    centre = (x, y)
    reach = (drawn - torch.tensor(centre, dtype=torch.float32, device=drawn.device)).abs_().amax(dim=1)
    for windings in WINDINGS:
        if float((reach > windings * step / 2).float().mean()) <= MAX_OUTSIDE:
            break
    return Codebook(centre, side=float32(windings * step), windings=windings)


def encode_to_step(pairs: Tensor, step: float) -> tuple[Codebook, Codes] | None:
    """Choose a codebook of lattice step `step` for `pairs` (P, 2), and their codes; None if no valid codebook fits.

    Outliers are coded in shells. If a shell is far too coarse for a pair, as happens when another pair lies a hundred times
    farther out, the square grows first.
    """
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
        square = Codebook((float(centre[0]), float(centre[1])), float32(PUBLISHED_SIDE), windings, centred=False)
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
