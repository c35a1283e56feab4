"""How sure a figure is: bootstrap intervals over pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, and the interval that its counterpart of all pictures lies in.

    Attributes:
        value: of the sample.
        low, high: the interval's ends; NaN where the sample is a single picture, which tells of no other.
    """

    value: float
    low: float
    high: float


def bootstrap(
    groups: Sequence[NDArray[Any]],
    statistic: Callable[[NDArray[Any]], float],
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """Return a statistic of the values of all groups, with its percentile bootstrap interval.

    Whole groups are drawn, with replacement: values of one picture are not independent of each other (the cluster
    bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Args:
        groups: the values of each picture, (values, ...).
        statistic: a figure of (values, ...).
        seed: equal seeds give equal intervals.
        resamples: how often pictures are drawn anew.
        level: share of the resampled figures that lies in the interval.

    Raises:
        ValueError: there are no groups.
    """
    if not groups:
        raise ValueError("no groups to draw from")
    value = float(statistic(np.concatenate(groups)))
    if len(groups) == 1:
        return Estimate(value, math.nan, math.nan)
    draws = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
    figures = [statistic(np.concatenate([groups[index] for index in draw])) for draw in draws]
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))
