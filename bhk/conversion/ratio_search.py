"""How finely to code a model so that its file has a given size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bhk.base.parallel import ordered_map
from bhk.base.progress import Progress, silent
from bhk.codec.estimate import estimate
from bhk.codec.fit import PresetError, sample_size, sample_tensor
from bhk.codec.tensor import EncodedTensor, keep
from bhk.conversion.header import with_entries
from bhk.conversion.selection import PlannedTensor
from bhk.conversion.steps import SampledTensor, StepsByLevel

RATIO_TOLERANCE = 0.01  # what bhk promises
REAL_TOLERANCE = 0.004  # close enough to stop encoding again
REACH_TOLERANCE = 0.05  # estimates are better than this: a ratio that they miss by more is out of reach
SOLVE_TOLERANCE = 0.001
LEVEL_RESOLUTION_DB = 0.01
START_LEVEL_DB = 27.0
DB_PER_BIT = 20 * math.log10(2)
MAX_TRIALS = 30
MAX_ENCODINGS = 4

Encode = Callable[[PlannedTensor], EncodedTensor]


@dataclass(frozen=True)
class _Sizes:
    """Sizes in bytes as a function of the model's level.

    Attributes:
        steps: the steps at each ratio.
        dense: all dense tensors together.
        fixed: the file without the streams of coded tensors.
        encode: encodes a tensor that has a step.
        samples: pairs of weights of each coded tensor, float32 (P, 2).
    """

    steps: StepsByLevel
    dense: int
    fixed: int
    encode: Encode
    samples: Sequence[Tensor]

    @property
    def weights(self) -> int:
        """Number of weights that are coded."""
        return sum(entry.planned.numel for entry in self.steps.sampled)

    def estimated(self, level_db: float) -> float:
        """Estimate the streams of all coded tensors."""

        def size(sampled: tuple[SampledTensor, Tensor]) -> float:
            entry, pairs = sampled
            step = self.steps.step_of(entry, level_db)
            coded = with_entries(*estimate(pairs, entry.planned.pairs, step)) if step else math.inf
            return min(coded, entry.planned.nbytes)

        return sum(ordered_map(size, zip(self.steps.sampled, self.samples, strict=True), self.steps.threads))

    def real(self, level_db: float) -> float:
        """Encode the tensors and return the size of their streams."""

        def size(planned: PlannedTensor) -> float:
            encoded = self.encode(planned)
            return with_entries(encoded.nbytes, len(encoded.streams))

        tensors = (self.steps.planned(entry, level_db) for entry in self.steps.sampled)
        return sum(ordered_map(size, tensors, self.steps.threads))

    def ratio(self, coded: float) -> float:
        """Return the ratio of a file whose coded tensors take `coded` bytes."""
        return self.dense / (self.fixed + coded)


def level_for_ratio(
    ratio: float, steps: StepsByLevel, overhead: int, encode: Encode, progress: Progress = silent
) -> float:
    """Return the model's level in dB at which the file is `ratio` times smaller than the dense tensors.

    Estimates find it first; they are up to 3 % off if weights differ from place to place. Then the tensors are encoded, and
    estimates are corrected by the real size, until the ratio is met.

    Args:
        ratio: size of the dense tensors divided by the size of the file.
        steps: the steps at each level.
        overhead: bytes of the file without its streams.
        encode: encodes a tensor that has a step.
        progress: called with ("Steps", trials done, most trials possible).

    Raises:
        PresetError: the ratio is out of reach.
    """
    dense = sum(planned.nbytes for planned in steps.tensors)
    fixed = overhead + sum(keep(planned.tensor).nbytes for planned in steps.tensors if not planned.coded)
    sizes = _Sizes(steps, dense, fixed, encode, _samples(steps))
    correction, reached = 1.0, 0.0
    for trial in range(MAX_ENCODINGS if steps.sampled else 0):
        progress("Steps", trial, MAX_ENCODINGS)
        level_db = _solve(ratio, sizes, correction)
        estimated = sizes.estimated(level_db)
        reached = sizes.ratio(correction * estimated)
        if abs(reached / ratio - 1) > REACH_TOLERANCE:
            break
        coded = sizes.real(level_db)
        reached, correction = sizes.ratio(coded), coded / estimated
        if abs(reached / ratio - 1) < REAL_TOLERANCE:
            return level_db
    if abs(reached / ratio - 1) < RATIO_TOLERANCE:
        return level_db
    most, least = (sizes.ratio(correction * sizes.estimated(end)) for end in steps.level_range_db)
    if least < ratio < most:  # sizes jump if the weights themselves lie on a lattice
        raise PresetError(
            f"a ratio of {ratio:g} was asked for; the closest that this checkpoint reaches is {reached:.2f}"
        )
    raise PresetError(f"a ratio of {ratio:g} was asked for; this checkpoint reaches {least:.2f} to {most:.2f}")


def _samples(steps: StepsByLevel) -> Sequence[Tensor]:
    """Return a sample of each coded tensor, in one piece of memory: small pieces would keep others from being given back."""
    counts = [sample_size(entry.planned.numel // 2) for entry in steps.sampled]
    samples = torch.split(torch.empty(sum(counts), 2), counts)

    def draw(place: tuple[SampledTensor, Tensor]) -> None:
        entry, pairs = place
        pairs.copy_(sample_tensor(entry.planned.tensor))

    for _ in ordered_map(draw, zip(steps.sampled, samples, strict=True), steps.threads):
        pass
    return samples


def _solve(ratio: float, sizes: _Sizes, correction: float) -> float:
    """Return the level in dB at which estimates, times `correction`, come closest to `ratio`."""
    low, high = sizes.steps.level_range_db
    level_db = START_LEVEL_DB
    for trial in range(MAX_TRIALS):
        size = sizes.fixed + correction * sizes.estimated(level_db)
        missing = sizes.dense / ratio - size
        low, high = (level_db, high) if missing > 0 else (low, level_db)
        if abs(missing) < SOLVE_TOLERANCE * size or high - low < LEVEL_RESOLUTION_DB:
            break
        # A bit per weight is 6 dB: that is the slope of quality over size, except at steps and plateaus.
        guess = level_db + DB_PER_BIT * 8 * missing / sizes.weights
        level_db = guess if low < guess < high and trial % 3 != 2 else (low + high) / 2
    return level_db
