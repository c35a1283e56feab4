"""Planning a conversion: which tensors are coded, with which lattice step; and how large that will be."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from bhk.checkpoint.roles import natural_key, role_of
from bhk.codec.estimate import estimate
from bhk.codec.fit import (
    SNR_RANGE_DB,
    PresetError,
    check_snr,
    find_preset,
    model_scale,
    sample_tensor,
    spread,
    step_for,
    tensor_step,
)
from bhk.codec.shape import Pairing, Shape
from bhk.codec.tensor import encode_tensor, is_codable, keep, published_codes
from bhk.errors import BhkError
from bhk.parallel import ordered_map

MIN_NUMEL = 1024  # smaller tensors are kept exact: tokens and tables on which much depends and little can be saved
# A vocabulary's error enters once, through the rows that are looked up, where those of the layers behind it add up. With twice
# the step all-MiniLM-L6-v2 is 10 % smaller at equal fidelity; with three times, 14 %.
TABLE_ROWS = 4096
TABLE_SNR_DB = -6.0
RATIO_TOLERANCE = 0.01  # what is promised
REAL_TOLERANCE = 0.004  # no more encodings once it is met this well
REACH_TOLERANCE = 0.05  # estimates are better than that: a ratio they miss by more is out of reach
SOLVE_TOLERANCE = 0.001
SNR_RESOLUTION_DB = 0.01
START_SNR_DB = 27.0
DB_PER_BIT = 20 * math.log10(2)
MAX_TRIALS = 30
MAX_ENCODINGS = 4


class PatternError(BhkError):
    """A pattern of tensor names that matches none, or contradicts another."""


@dataclass(frozen=True)
class Quality:
    """What a user asks of a conversion; see `bhk.convert`."""

    preset: str = "balanced"
    snr: float | None = None
    ratio: float | None = None
    exact: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    snr_for: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = find_preset(self.preset)
        if self.snr is not None and self.ratio is not None:
            raise PresetError("both a signal-to-noise ratio and a ratio were asked for; give one of them")
        if chosen.snr_db is None and (self.snr is not None or self.ratio is not None or self.snr_for):
            raise PresetError(
                f"preset {self.preset!r} is the published method at its one quality; leave out snr and ratio"
            )
        for snr in (*([] if self.snr is None else [self.snr]), *self.snr_for.values()):
            check_snr(snr)
        if self.ratio is not None and not self.ratio > 1:
            raise PresetError(f"a ratio of {self.ratio:g} was asked for; it must be above 1")


@dataclass(frozen=True)
class Item:
    """One tensor of the plan.

    Attributes:
        names: the name it is stored under, then its aliases.
        coded: coded on a trajectory (else kept exact).
        step: lattice step; None with the published method.
        snr_db: ratio asked for this tensor alone.
        finer_db: how much finer its step is than the model's.
    """

    names: tuple[str, ...]
    tensor: Tensor
    role: str
    coded: bool
    finer_db: float = 0.0
    snr_db: float | None = None
    step: float | None = None

    @property
    def pairing(self) -> Pairing:
        """Linear weights are paired row by row, everything else flat."""
        return "rows" if self.role == "linear" else "flat"

    @property
    def pairs(self) -> int:
        """Number of pairs of weights."""
        return Shape(tuple(self.tensor.shape), self.pairing).count

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return self.tensor.numel() * self.tensor.element_size()


@dataclass(frozen=True)
class _Sampled:
    item: Item
    pairs: Tensor
    scale: float


def plan(
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Sequence[str]],
    quality: Quality,
    finer_db: Callable[[str], float],
    overhead: Callable[[Sequence[Item]], int],
    threads: int,
) -> list[Item]:
    """Return what to do with each tensor, in the natural order of names, whatever order the file had.

    Args:
        finer_db: by how many dB the signal-to-noise ratio of a tensor is above the model's.
        overhead: bytes of a file of those items besides their streams.

    Raises:
        PatternError: a pattern of `quality` matches no tensor.
        PresetError: the wanted ratio is out of reach.
    """
    published = find_preset(quality.preset).snr_db is None
    items = []
    for name, tensor in tensors.items():
        names = tuple(sorted((name, *aliases.get(name, ())), key=natural_key))
        role = role_of(names[0], tensor)
        codable = published_codes(tensor) if published else is_codable(tensor) and tensor.numel() >= MIN_NUMEL
        finer = finer_db(names[0]) + (TABLE_SNR_DB if _is_table(names, tensor, role) else 0.0)
        items.append(Item(names, tensor, role, codable and role != "buffer", finer))
    items.sort(key=lambda item: natural_key(item.names[0]))
    items = _apply_patterns(items, quality)
    return items if published else _choose_steps(items, quality, overhead, threads)


def _is_table(names: Sequence[str], tensor: Tensor, role: str) -> bool:
    """Tell whether `tensor` is a vocabulary: looked up row by row, and not tied to an output layer."""
    return role == "embedding" and tensor.ndim == 2 and tensor.shape[0] >= TABLE_ROWS and len(names) == 1


def _example(pattern: str, items: Sequence[Item]) -> str:
    """Return the name most like `pattern`."""
    names = [item.names[0] for item in items]
    return next(iter(difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)), "")


def _matches(item: Item, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in item.names)


def _apply_patterns(items: list[Item], quality: Quality) -> list[Item]:
    for pattern in (*quality.exact, *quality.only):
        if not any(_matches(item, pattern) for item in items):
            raise PatternError(
                f"pattern {pattern!r} matches none of {len(items)} tensors, such as {_example(pattern, items)!r}"
            )
    for pattern in quality.snr_for:
        if not any(item.coded and _matches(item, pattern) for item in items):
            raise PatternError(
                f"pattern {pattern!r} matches no tensor that is coded; buffers, vectors and small ones are not"
            )
    planned = []
    for item in items:
        kept = any(_matches(item, pattern) for pattern in quality.exact)
        chosen = not quality.only or any(_matches(item, pattern) for pattern in quality.only)
        own = [snr for pattern, snr in quality.snr_for.items() if _matches(item, pattern)]
        planned.append(replace(item, coded=item.coded and chosen and not kept, snr_db=own[-1] if own else None))
    if quality.only and any(item.coded for item in items) and not any(item.coded for item in planned):
        raise PatternError(
            "the patterns of tensors to code match none that can be; buffers, vectors and small ones cannot"
        )
    return planned


def _choose_steps(
    items: list[Item], quality: Quality, overhead: Callable[[Sequence[Item]], int], threads: int
) -> list[Item]:
    coded = [item for item in items if item.coded]
    sampled = list(ordered_map(_sample, coded, threads))
    scale = model_scale((entry.scale, entry.item.tensor.numel()) for entry in sampled)
    snr = find_preset(quality.preset).snr_db if quality.snr is None else quality.snr
    assert snr is not None
    if quality.ratio is not None:
        dense = sum(item.nbytes for item in items)
        fixed = overhead(items) + sum(keep(item.tensor).nbytes for item in items if not item.coded)
        snr = _snr_for_ratio(quality.ratio, _Sizes(sampled, scale, dense, fixed, threads))
    steps = {entry.item.names: _step(entry, scale, snr) for entry in sampled}
    return [replace(item, step=steps[item.names]) if item.coded else item for item in items]


def _sample(item: Item) -> _Sampled:
    drawn = sample_tensor(item.tensor)
    return _Sampled(item, drawn, spread(drawn))


def _step(entry: _Sampled, scale: float, snr: float) -> float:
    if entry.item.snr_db is not None:
        return step_for(entry.scale, entry.item.snr_db)
    low, high = SNR_RANGE_DB
    snr = min(max(snr + entry.item.finer_db, low), high)
    return tensor_step(step_for(scale, snr), entry.scale, snr)


@dataclass(frozen=True)
class _Sizes:
    """What a conversion takes at one signal-to-noise ratio of the model or another, in bytes.

    Attributes:
        dense: of the dense tensors.
        fixed: of the file besides the streams of coded tensors.
    """

    sampled: list[_Sampled]
    scale: float
    dense: int
    fixed: int
    threads: int

    @property
    def weights(self) -> int:
        """Number of weights that are coded."""
        return sum(entry.item.tensor.numel() for entry in self.sampled)

    def estimated(self, snr: float) -> float:
        """Estimate the streams of the coded tensors."""

        def size(entry: _Sampled) -> float:
            return min(estimate(entry.pairs, entry.item.pairs, _step(entry, self.scale, snr)), entry.item.nbytes)

        return sum(ordered_map(size, self.sampled, self.threads))

    def real(self, snr: float) -> int:
        """Encode the tensors to see what their streams take."""

        def size(entry: _Sampled) -> int:
            return encode_tensor(entry.item.tensor, entry.item.pairing, _step(entry, self.scale, snr)).nbytes

        return sum(ordered_map(size, self.sampled, self.threads))

    def ratio(self, coded: float) -> float:
        """Return the ratio of a file whose coded tensors take `coded` bytes."""
        return self.dense / (self.fixed + coded)


def _snr_for_ratio(ratio: float, sizes: _Sizes) -> float:
    """Return the model's signal-to-noise ratio at which the file is `ratio` times smaller than the dense tensors.

    It is found on estimates, which are up to 3 % off where the weights differ from place to place; then on estimates corrected
    by what the last answer really takes, until that is what was asked for.
    """
    correction, reached = 1.0, 0.0
    for _ in range(MAX_ENCODINGS if sizes.sampled else 0):
        snr = _solve(ratio, sizes, correction)
        estimated = sizes.estimated(snr)
        reached = sizes.ratio(correction * estimated)
        if abs(reached / ratio - 1) > REACH_TOLERANCE:
            break
        coded = sizes.real(snr)
        reached, correction = sizes.ratio(coded), coded / estimated
        if abs(reached / ratio - 1) < REAL_TOLERANCE:
            return snr
    if abs(reached / ratio - 1) < RATIO_TOLERANCE:
        return snr
    most, least = (sizes.ratio(correction * sizes.estimated(end)) for end in SNR_RANGE_DB)
    if least < ratio < most:  # sizes jump where the weights themselves lie on a lattice
        raise PresetError(
            f"a ratio of {ratio:g} was asked for; the nearest that this checkpoint reaches is {reached:.2f}"
        )
    raise PresetError(f"a ratio of {ratio:g} was asked for; this checkpoint reaches {least:.2f} to {most:.2f}")


def _solve(ratio: float, sizes: _Sizes, correction: float) -> float:
    """Return the signal-to-noise ratio at which estimates, times `correction`, come closest to `ratio`."""
    low, high = SNR_RANGE_DB
    snr = START_SNR_DB
    for trial in range(MAX_TRIALS):
        size = sizes.fixed + correction * sizes.estimated(snr)
        missing = sizes.dense / ratio - size
        low, high = (snr, high) if missing > 0 else (low, snr)
        if abs(missing) < SOLVE_TOLERANCE * size or high - low < SNR_RESOLUTION_DB:
            break
        # A bit a weight is 6 dB: the slope of the curve from size to quality, but where it has steps and plateaus.
        guess = snr + DB_PER_BIT * 8 * missing / sizes.weights
        snr = guess if low < guess < high and trial % 3 != 2 else (low + high) / 2
    return snr
