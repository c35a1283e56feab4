"""Planning a conversion: which tensors are coded, with which lattice step; and how large that will be."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from bhk.checkpoint.roles import natural_key, role_of
from bhk.codec.estimate import estimate, sample_tensor
from bhk.codec.fit import (
    SNR_RANGE_DB,
    PresetError,
    check_snr,
    find_preset,
    model_scale,
    root_mean_square,
    step_for,
    tensor_step,
)
from bhk.codec.shape import Pairing, Shape
from bhk.codec.tensor import encode_tensor, is_codable, keep, published_codes
from bhk.errors import BhkError
from bhk.parallel import ordered_map
from bhk.sam.recognise import DELICATE_SNR_DB

MIN_NUMEL = 1024  # smaller tensors are kept exact: tokens and tables on which much depends and little can be saved
# A vocabulary's error enters once, through the rows that are looked up, where those of the layers behind it add up. With twice
# the step all-MiniLM-L6-v2 is 10 % smaller at equal fidelity; with three times, 14 %.
TABLE_ROWS = 4096
TABLE_SNR_DB = -6.0
RATIO_TOLERANCE = 0.001
START_SNR_DB = 27.0
DB_PER_BIT = 20 * math.log10(2)
MAX_TRIALS = 20


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
    rms: float


def plan(
    tensors: Mapping[str, Tensor],
    aliases: Mapping[str, Sequence[str]],
    quality: Quality,
    is_delicate: Callable[[str], bool],
    overhead: Callable[[Sequence[Item]], int],
    threads: int,
) -> list[Item]:
    """Return what to do with each tensor, in the natural order of names, whatever order the file had.

    Args:
        is_delicate: tells which tensors get a finer step.
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
        finer_db = DELICATE_SNR_DB if is_delicate(names[0]) else TABLE_SNR_DB if _is_table(names, tensor, role) else 0.0
        items.append(Item(names, tensor, role, codable and role != "buffer", finer_db))
    items.sort(key=lambda item: natural_key(item.names[0]))
    items = _apply_patterns(items, quality)
    return items if published else _choose_steps(items, quality, overhead, threads)


def _is_table(names: Sequence[str], tensor: Tensor, role: str) -> bool:
    """Tell whether `tensor` is a vocabulary: looked up row by row, and not tied to an output layer."""
    return role == "embedding" and tensor.ndim == 2 and tensor.shape[0] >= TABLE_ROWS and len(names) == 1


def _matches(item: Item, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in item.names)


def _apply_patterns(items: list[Item], quality: Quality) -> list[Item]:
    for pattern in (*quality.exact, *quality.only):
        if not any(_matches(item, pattern) for item in items):
            raise PatternError(f"pattern {pattern!r} matches no tensor; see the names with `bhk inspect`")
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
    return planned


def _choose_steps(
    items: list[Item], quality: Quality, overhead: Callable[[Sequence[Item]], int], threads: int
) -> list[Item]:
    coded = [item for item in items if item.coded]
    sampled = list(ordered_map(_sample, coded, threads))
    scale = model_scale((entry.rms, entry.item.tensor.numel()) for entry in sampled)
    snr = find_preset(quality.preset).snr_db if quality.snr is None else quality.snr
    assert snr is not None
    if quality.ratio is not None and sampled:
        snr = _snr_for_ratio(quality.ratio, items, sampled, scale, overhead, threads)
    steps = {entry.item.names: _step(entry, scale, snr) for entry in sampled}
    return [replace(item, step=steps[item.names]) if item.coded else item for item in items]


def _sample(item: Item) -> _Sampled:
    drawn = sample_tensor(item.tensor)
    return _Sampled(item, drawn, root_mean_square(drawn))


def _step(entry: _Sampled, scale: float, snr: float) -> float:
    if entry.item.snr_db is not None:
        return step_for(entry.rms, entry.item.snr_db)
    low, high = SNR_RANGE_DB
    snr = min(max(snr + entry.item.finer_db, low), high)
    return tensor_step(step_for(scale, snr), entry.rms, snr)


def _snr_for_ratio(
    ratio: float,
    items: list[Item],
    sampled: list[_Sampled],
    scale: float,
    overhead: Callable[[Sequence[Item]], int],
    threads: int,
) -> float:
    """Return the model's signal-to-noise ratio at which the file is `ratio` times smaller than the dense tensors.

    It is found on estimates, then once more on estimates corrected by what the first answer really takes: they are up
    to 2 % off where the weights differ from place to place.
    """
    dense = sum(item.nbytes for item in items)
    fixed = overhead(items) + sum(keep(item.tensor).nbytes for item in items if not item.coded)
    weights = sum(entry.item.tensor.numel() for entry in sampled)

    def estimated(snr: float) -> float:
        def size(entry: _Sampled) -> float:
            return min(estimate(entry.pairs, entry.item.pairs, _step(entry, scale, snr)), entry.item.nbytes)

        return sum(ordered_map(size, sampled, threads))

    def real(snr: float) -> int:
        def size(entry: _Sampled) -> int:
            return encode_tensor(entry.item.tensor, entry.item.pairing, _step(entry, scale, snr)).nbytes

        return sum(ordered_map(size, sampled, threads))

    def solve(correction: float) -> float:
        low, high = SNR_RANGE_DB
        snr = START_SNR_DB
        for _ in range(MAX_TRIALS):
            size = fixed + correction * estimated(snr)
            if abs(dense / size / ratio - 1) < RATIO_TOLERANCE:
                return snr
            # A bit a weight is 6 dB: the slope of the curve from size to quality.
            missing_bits = 8 * (dense / ratio - size) / weights
            previous, snr = snr, min(max(snr + DB_PER_BIT * missing_bits, low), high)
            if snr == previous:
                break
        least, most = (dense / (fixed + correction * estimated(snr)) for snr in (high, low))
        raise PresetError(f"a ratio of {ratio:g} was asked for; this checkpoint reaches {least:.2f} to {most:.2f}")

    snr = solve(1.0)
    return solve(real(snr) / estimated(snr))
