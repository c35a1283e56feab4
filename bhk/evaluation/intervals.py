"""Bootstrap confidence intervals over pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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


def drawings(pictures: int, *, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each picture counts, (pictures,): once, and then as often as it is drawn, for `RESAMPLES` drawings.

    Pictures are drawn as a whole, with replacement, because the values of one depend on each other (the cluster bootstrap;
    Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). A single picture is not drawn: it says
    nothing about others. All at once, the drawings would take 8 kB of memory for each picture.

    Args:
        pictures: how many there are.
        seed: equal seeds give equal drawings.
    """
    yield np.ones(pictures, np.int64)
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES if pictures > 1 else 0):
        yield np.bincount(random.integers(pictures, size=pictures), minlength=pictures)


def resampled_sums(columns: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """Return the sums of columns, and those of pictures drawn anew: (columns, 1 + drawings).

    So a mean or a ratio of means needs two numbers of each picture, however many values it has.

    Args:
        columns: (columns, pictures).
        seed: see `drawings`.
    """
    columns = np.ascontiguousarray(columns)
    sums = [[(often * column).sum() for column in columns] for often in drawings(columns.shape[1], seed=seed)]
    return np.array(sums).T


def resampled_medians(
    values: NDArray[np.float64], pictures: NDArray[np.int32], count: int, *, seed: int
) -> NDArray[np.float64]:
    """Return the median of values, and those of the values of pictures drawn anew: (1 + drawings,).

    Args:
        values: (values,).
        pictures: which picture each value belongs to, (values,).
        count: number of pictures.
        seed: see `drawings`.
    """
    # The median of a drawing has its rank among all values near the middle: eight standard deviations hold nearly all.
    share = min(1.0, 8 * 0.5 / math.sqrt(count))
    found = _medians_within(values, pictures, count, share, seed)
    if found is None:
        found = _medians_within(values, pictures, count, 1.0, seed)
    assert found is not None
    return found


def _medians_within(
    values: NDArray[np.float64], pictures: NDArray[np.int32], count: int, share: float, seed: int
) -> NDArray[np.float64] | None:
    """Return the medians of all drawings; None if one of them is not within this share of the values around the middle."""
    ends = [math.floor((len(values) - 1) * (1 - share) / 2), math.ceil((len(values) - 1) * (1 + share) / 2)]
    low, high = np.partition(values, ends)[ends]
    near = np.flatnonzero((values >= low) & (values <= high))
    near = near[np.lexsort((pictures[near], values[near]))]
    sizes, below = (np.bincount(some, minlength=count) for some in (pictures, pictures[values < low]))
    values, pictures = values[near], pictures[near]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(values) != 0) | (np.diff(pictures) != 0)]))
    values, pictures, equal = values[starts], pictures[starts], np.diff(starts, append=len(values))
    medians = []
    for often in drawings(count, seed=seed):
        total = int(often @ sizes)
        if not total:
            medians.append(math.nan)
            continue
        reached = np.cumsum(often[pictures] * equal)
        ranks = np.array([(total - 1) // 2, total // 2]) - int(often @ below)
        if ranks[0] < 0 or ranks[1] >= reached[-1]:
            return None
        medians.append(float(values[np.searchsorted(reached, ranks, side="right")].mean()))
    return np.array(medians)


def ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return top / bottom; NaN where the bottom is 0."""
    found: NDArray[np.float64] = np.divide(top, bottom, out=np.full(np.shape(top), math.nan), where=bottom != 0)
    return found


def estimate(found: NDArray[np.float64], level: float = LEVEL) -> Estimate:
    """Return a statistic with its percentile interval; without one if a resampled statistic is not finite.

    Args:
        found: the statistic of the pictures, and then that of each drawing, (1 + drawings,).
        level: share of the resampled statistics inside the interval.
    """
    value, resampled = float(found[0]), found[1:]
    if not len(resampled) or not np.isfinite(resampled).all():
        return Estimate(value, None, None)
    low, high = map(float, np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]))
    return Estimate(value, low, high)


def _percent(share: float, digits: int) -> str:
    return number(100 * share, digits, " %")
