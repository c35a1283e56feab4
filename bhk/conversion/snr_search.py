"""How finely to code a model so that its weights have a given signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bhk.base.parallel import ordered_map
from bhk.base.progress import Progress, silent
from bhk.codec.error import decibels
from bhk.codec.fit import PresetError
from bhk.codec.snr import CLOSE_DB, TOLERANCE_DB, root_mean_square, step_for_snr
from bhk.conversion.ratio_search import LEVEL_RESOLUTION_DB, Encode
from bhk.conversion.selection import PlannedTensor
from bhk.conversion.steps import SampledTensor, StepsByLevel

MAX_TRIALS = 8


def with_own_steps(tensors: Sequence[PlannedTensor], encode: Encode, threads: int) -> tuple[PlannedTensor, ...]:
    """Return the tensors. Those with a signal-to-noise ratio of their own have the step that gives it.

    Args:
        tensors: all of them.
        encode: encodes a tensor that has a step.
        threads: number of worker threads.

    Raises:
        PresetError: a tensor's ratio is out of reach.
    """

    def own(planned: PlannedTensor) -> PlannedTensor:
        if not planned.coded or planned.snr_db is None:
            return planned
        try:
            step = step_for_snr(
                planned.tensor, planned.snr_db, lambda tried: encode(replace(planned, step=tried)).snr_db
            )
        except PresetError as error:
            raise PresetError(f"{planned.name}: {error}") from error
        return replace(planned, step=step)

    return tuple(ordered_map(own, tensors, threads))


@dataclass(frozen=True)
class _Errors:
    """The signal-to-noise ratio of coded weights as a function of the model's level.

    Attributes:
        steps: the steps at each level.
        sampled: the tensors that count: those without a ratio of their own.
        powers: tensor name -> sum of its squared weights.
        encode: encodes a tensor that has a step.
    """

    steps: StepsByLevel
    sampled: Sequence[SampledTensor]
    powers: dict[str, float]
    encode: Encode

    def estimated(self, level_db: float) -> float:
        """Estimate the ratio in dB from the steps."""
        noise = 0.0
        for entry in self.sampled:
            rounding = entry.planned.numel * self.steps.step_of(entry, level_db) ** 2 / 12
            noise += min(rounding, self.powers[entry.planned.name])
        return decibels(sum(self.powers.values()), noise)

    def real(self, level_db: float) -> float:
        """Encode the tensors and return the ratio in dB of those that are not kept exact."""

        def encoded(entry: SampledTensor) -> float | None:
            return self.encode(self.steps.planned(entry, level_db)).snr_db

        signal = noise = 0.0
        found = ordered_map(encoded, self.sampled, self.steps.threads)
        for power, snr_db in zip(self.powers.values(), found, strict=True):
            if snr_db is not None:
                signal += power
                noise += power * 10 ** (-snr_db / 10)
        return decibels(signal, noise)


def level_for_snr(snr_db: float, steps: StepsByLevel, encode: Encode, progress: Progress = silent) -> float:
    """Return the model's level in dB at which all coded weights without a ratio of their own have one together.

    Estimates find it first; then the tensors are encoded, and estimates are corrected by the real ratio. Where errors jump from
    level to level, the ratio may be higher than asked.

    Args:
        snr_db: the wanted ratio in dB.
        steps: the steps at each level.
        encode: encodes a tensor that has a step.
        progress: called with ("Steps", trials done, most trials possible).

    Raises:
        PresetError: the ratio is out of reach.
    """
    sampled = [entry for entry in steps.sampled if entry.planned.snr_db is None]
    powers = {
        entry.planned.name: root_mean_square(entry.planned.tensor) ** 2 * entry.planned.numel for entry in sampled
    }
    errors = _Errors(steps, sampled, powers, encode)
    correction = 0.0
    tried: list[tuple[float, float]] = []  # the ratio and the level
    for trial in range(MAX_TRIALS if sampled else 0):
        progress("Steps", trial, MAX_TRIALS)
        below, above = _around(snr_db, tried)
        level_db = _between(snr_db, below, above) if below and above else _solve(snr_db - correction, errors)
        found = errors.real(level_db)
        if abs(found - snr_db) <= CLOSE_DB:
            return level_db
        if (found, level_db) in tried:
            break
        tried.append((found, level_db))
        correction = found - errors.estimated(level_db)
    if not tried or tried[0][0] == math.inf:  # the level changes nothing, or nothing is lost
        return steps.level_range_db[1]
    closest = min(tried, key=lambda one: abs(one[0] - snr_db))
    below, above = _around(snr_db, tried)
    if abs(closest[0] - snr_db) <= TOLERANCE_DB:
        return closest[1]
    if below and above:  # errors jump from level to level
        return above[1]
    least, most = (errors.estimated(end) + correction for end in steps.level_range_db)
    raise PresetError(
        f"a signal-to-noise ratio of {snr_db:g} dB was asked for; this checkpoint reaches {least:.1f} to {most:.1f} dB"
    )


def _around(
    snr_db: float, tried: Sequence[tuple[float, float]]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return the closest ratio below `snr_db` and the closest one above, each with its level."""
    below = max((one for one in tried if one[0] < snr_db), default=None)
    above = min((one for one in tried if one[0] >= snr_db), default=None)
    return below, above


def _between(snr_db: float, below: tuple[float, float], above: tuple[float, float]) -> float:
    """Return the level in dB at which the ratio is `snr_db`, on a line between two that were tried."""
    share = 0.5 if above[0] == math.inf else (snr_db - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])


def _solve(snr_db: float, errors: _Errors) -> float:
    """Return the level in dB at which the estimated ratio is `snr_db`."""
    low, high = errors.steps.level_range_db
    while high - low > LEVEL_RESOLUTION_DB:
        middle = (low + high) / 2
        low, high = (middle, high) if errors.estimated(middle) < snr_db else (low, middle)
    return (low + high) / 2
