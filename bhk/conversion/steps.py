"""The lattice step of each tensor, from the signal-to-noise ratio of the model, or from the size that is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from bhk.base.parallel import ordered_map
from bhk.calibration.sensitivity import Sensitivity
from bhk.codec.estimate import estimate
from bhk.codec.fit import (
    SNR_RANGE_DB,
    PresetError,
    model_scale,
    sample_tensor,
    spread,
    step_for,
    tensor_step,
)
from bhk.codec.tensor import EncodedTensor, keep
from bhk.conversion.plan import Item

# A measured allocation may find that a tensor hardly matters; coarser than this, its errors are no longer small, which the
# measurement takes for granted.
MEASURED_FLOOR_DB = 4.0
# By how much measured steps are finer than small errors on synthetic samples call for. Without it, at preset `balanced`, masks
# of the demo SAM differ from the original's 1.3 times as much as by plain rounding, and those of another small SAM 1.4 times.
MARGIN_DB = 2.5
STEP_GRID_DB = 0.5  # of measured steps: layers with the same step can share a codebook in the header
NOMINAL_SNR_DB = 28.0  # of the model; at others, floors of single tensors shift the balance by little
RATIO_TOLERANCE = 0.01  # what is promised
REAL_TOLERANCE = 0.004  # no more encodings once it is met this well
REACH_TOLERANCE = 0.05  # estimates are better than that: a ratio they miss by more is out of reach
SOLVE_TOLERANCE = 0.001
SNR_RESOLUTION_DB = 0.01
START_SNR_DB = 27.0
DB_PER_BIT = 20 * math.log10(2)
MAX_TRIALS = 30
MAX_ENCODINGS = 4

Encode = Callable[[Item], EncodedTensor]


@dataclass(frozen=True)
class _Sampled:
    item: Item
    pairs: Tensor
    scale: float


@dataclass(frozen=True)
class Steps:
    """The steps of all tensors, at one signal-to-noise ratio of the model or another.

    Attributes:
        items: all of them.
        scale: robust scale of the model's weights.
    """

    items: Sequence[Item]
    sampled: Sequence[_Sampled]
    scale: float
    threads: int

    @classmethod
    def of(cls, items: Sequence[Item], threads: int) -> Steps:
        """Sample the tensors that are to be coded."""
        sampled = list(ordered_map(_sample, (item for item in items if item.coded), threads))
        scale = model_scale((entry.scale, entry.item.tensor.numel()) for entry in sampled)
        return cls(items, sampled, scale, threads)

    @property
    def snr_range_db(self) -> tuple[float, float]:
        """The ratios of the model between which steps change: with measured ones, until every tensor is at its own end."""
        finer = [entry.item.finer_db for entry in self.sampled if entry.item.measured]
        low, high = SNR_RANGE_DB
        return low - max([0.0, *finer]), high - min([0.0, *finer])

    def at(self, snr: float) -> list[Item]:
        """Return the items with the steps of a signal-to-noise ratio of the model in dB."""
        steps = {entry.item.names: self.step(entry, snr) for entry in self.sampled}
        return [replace(item, step=steps[item.names]) if item.coded else item for item in self.items]

    def step(self, entry: _Sampled, snr: float) -> float:
        """Return the step of one tensor."""
        if entry.item.snr_db is not None:
            return step_for(entry.scale, entry.item.snr_db)
        low, high = SNR_RANGE_DB
        snr += entry.item.finer_db
        if entry.item.measured and entry.scale > 0:
            step = max(step_for(self.scale, snr), step_for(entry.scale, high))
            return min(step, step_for(entry.scale, MEASURED_FLOOR_DB))
        snr = min(max(snr, low), high)
        return tensor_step(step_for(self.scale, snr), entry.scale, snr)


def allocate(items: Sequence[Item], sensitivity: Mapping[str, Sensitivity], threads: int) -> list[Item]:
    """Return the items with steps that change the outputs as much as before, in as few bits as that takes.

    With a sensitivity k, squared output change for each weight and squared error, the outputs change by the sum of k step^2
    over all weights, and a weight takes -log2(step) bits and a constant: the sum of bits is least where k step^2 is the same
    for all (reverse water-filling; Cover and Thomas 2006, section 10.3.3). The level is such that, at NOMINAL_SNR_DB, the
    expected change is that of plain rounding with the steps that the items came with, less a margin.
    """
    known = {name: found for name, found in sensitivity.items() if found.plain > 0 and found.fed > 0}
    plain = Steps.of(items, threads)
    steps = {item.names[0]: item.step for item in plain.at(NOMINAL_SNR_DB)}
    weights = change = 0.0
    for entry in plain.sampled:
        name, step = entry.item.names[0], steps[entry.item.names[0]]
        if name in known and step:
            weights += entry.item.tensor.numel()
            change += (
                entry.item.tensor.numel() * known[name].plain * (step / step_for(plain.scale, NOMINAL_SNR_DB)) ** 2
            )

    if not change:  # nothing to share out, or tensors all of whose weights are equal
        return list(items)

    def finer_db(name: str) -> float:
        exact = MARGIN_DB + 10 * math.log10(known[name].fed * weights / change)
        return round(exact / STEP_GRID_DB) * STEP_GRID_DB

    return [
        replace(item, finer_db=finer_db(item.names[0]), measured=True)
        if item.coded and item.names[0] in known
        else item
        for item in items
    ]


def _sample(item: Item) -> _Sampled:
    drawn = sample_tensor(item.tensor)
    return _Sampled(item, drawn, spread(drawn))


@dataclass(frozen=True)
class _Sizes:
    """What a conversion takes at one signal-to-noise ratio of the model or another, in bytes.

    Attributes:
        dense: of the dense tensors.
        fixed: of the file besides the streams of coded tensors.
        encode: encodes an item that has a step.
    """

    steps: Steps
    dense: int
    fixed: int
    encode: Encode

    @property
    def weights(self) -> int:
        """Number of weights that are coded."""
        return sum(entry.item.tensor.numel() for entry in self.steps.sampled)

    def estimated(self, snr: float) -> float:
        """Estimate the streams of the coded tensors."""

        def size(entry: _Sampled) -> float:
            step = self.steps.step(entry, snr)
            return min(estimate(entry.pairs, entry.item.pairs, step), entry.item.nbytes)

        return sum(ordered_map(size, self.steps.sampled, self.steps.threads))

    def real(self, snr: float) -> int:
        """Encode the tensors to see what their streams take."""
        coded = (item for item in self.steps.at(snr) if item.coded)
        return sum(ordered_map(lambda item: self.encode(item).nbytes, coded, self.steps.threads))

    def ratio(self, coded: float) -> float:
        """Return the ratio of a file whose coded tensors take `coded` bytes."""
        return self.dense / (self.fixed + coded)


def snr_for_ratio(ratio: float, steps: Steps, overhead: int, encode: Encode) -> float:
    """Return the model's signal-to-noise ratio in dB at which the file is `ratio` times smaller than the dense tensors.

    It is found on estimates, which are up to 3 % off where the weights differ from place to place; then on estimates corrected
    by what the last answer really takes, until that is what was asked for.

    Args:
        overhead: bytes of the file besides its streams.
        encode: encodes an item that has a step.

    Raises:
        PresetError: the ratio is out of reach.
    """
    dense = sum(item.nbytes for item in steps.items)
    fixed = overhead + sum(keep(item.tensor).nbytes for item in steps.items if not item.coded)
    sizes = _Sizes(steps, dense, fixed, encode)
    correction, reached = 1.0, 0.0
    for _ in range(MAX_ENCODINGS if steps.sampled else 0):
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
    most, least = (sizes.ratio(correction * sizes.estimated(end)) for end in steps.snr_range_db)
    if least < ratio < most:  # sizes jump where the weights themselves lie on a lattice
        raise PresetError(
            f"a ratio of {ratio:g} was asked for; the nearest that this checkpoint reaches is {reached:.2f}"
        )
    raise PresetError(f"a ratio of {ratio:g} was asked for; this checkpoint reaches {least:.2f} to {most:.2f}")


def _solve(ratio: float, sizes: _Sizes, correction: float) -> float:
    """Return the signal-to-noise ratio at which estimates, times `correction`, come closest to `ratio`."""
    low, high = sizes.steps.snr_range_db
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
