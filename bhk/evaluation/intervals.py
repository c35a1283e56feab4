"""Bootstrap confidence intervals over pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhk.base.texts import number

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic of some pictures, with its confidence interval.

    Attributes:
        value: the statistic of these pictures.
        low, high: the ends of the interval; None for a single picture, which says nothing about others.
    """

    value: float
    low: float | None
    high: float | None

    def interval(self, digits: int = 4) -> str:
        """Return the interval as text: "0.9612 … 0.9788", or a dash if there is none."""
        return "–" if self.low is None else f"{number(self.low, digits)} … {number(self.high, digits)}"

    def percent(self, digits: int = 2) -> str:
        """Return a share as text: "1.32 %"."""
        return _percent(self.value, digits)

    def percent_interval(self, digits: int = 2) -> str:
        """Return the interval of a share as text: "1.01 % … 1.64 %", or a dash if there is none."""
        if self.low is None or self.high is None:
            return "–"
        return f"{_percent(self.low, digits)} … {_percent(self.high, digits)}"


def bootstrap(
    groups: Sequence[NDArray[Any]],
    statistic: Callable[[NDArray[Any]], float],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Estimate:
    """Return a statistic of the values of all groups, with its percentile bootstrap interval.

    Whole groups are drawn, with replacement, because the values of one picture depend on each other (the cluster
    bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Args:
        groups: the values of each picture, (values, ...).
        statistic: computes one number from an array (values, ...).
        seed: equal seeds give equal intervals.
        resamples: number of times the pictures are drawn anew.
        level: share of the resampled statistics inside the interval.

    Raises:
        ValueError: there are no groups.
    """
    if not groups:
        raise ValueError("no groups to draw from")
    value = float(statistic(np.concatenate(groups)))
    if len(groups) == 1:
        return Estimate(value, None, None)
    resampled = [
        statistic(np.concatenate([groups[index] for index in draw])) for draw in _draws(len(groups), seed, resamples)
    ]
    return with_interval(value, resampled, level)


def times_drawn(groups: int, *, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Return how often each group is drawn, (resamples, groups), in the drawings that `bootstrap` makes."""
    return np.array([np.bincount(draw, minlength=groups) for draw in _draws(groups, seed, resamples)])


def with_interval(value: float, resampled: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> Estimate:
    """Return a statistic with its percentile interval; without one if a resampled statistic is not finite."""
    low, high = map(float, np.quantile(np.asarray(resampled), [(1 - level) / 2, (1 + level) / 2]))
    return Estimate(value, low, high) if math.isfinite(low + high) else Estimate(value, None, None)


def _draws(groups: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """Yield the groups of each drawing, (groups,): all at once, they would take 8 kB of memory for each picture."""
    random = np.random.default_rng(seed)
    return (random.integers(groups, size=groups) for _ in range(resamples))


def _percent(share: float, digits: int) -> str:
    return number(100 * share, digits, " %")
