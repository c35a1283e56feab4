from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bhk.evaluation import intervals
from bhk.evaluation.intervals import (
    Estimate,
    drawings,
    estimate,
    ratio,
    resampled_medians,
    resampled_sums,
)


def _mean(values: NDArray[np.float64], *, seed: int, level: float = 0.95) -> Estimate:
    """Return the mean of one value of each picture."""
    return estimate(resampled_sums(values[None], seed=seed)[0] / len(values), level)


def _drawn(groups: list[NDArray[Any]], statistic: Callable[[NDArray[Any]], Any], seed: int) -> NDArray[np.float64]:
    """Return a statistic of all values, and of those of the groups of each drawing, put one behind another."""
    random = np.random.default_rng(seed)
    draws = [random.integers(len(groups), size=len(groups)) for _ in range(1000)]
    every = [np.concatenate([groups[index] for index in draw]) for draw in (range(len(groups)), *draws)]
    return np.array([statistic(values) for values in every])


def _groups(count: int, seed: int = 0) -> list[NDArray[Any]]:
    """Return values of pictures, some of which have none, many equal ones, or values unlike those of the others."""
    random = np.random.default_rng(seed)
    return [np.minimum(1, random.normal(0.9 + 0.1 * random.normal(), 0.1, random.integers(0, 9))) for _ in range(count)]


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = _mean(values, seed=1)
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(found.value - error, abs=error / 5)
    assert found.high == pytest.approx(found.value + error, abs=error / 5)
    wider = _mean(values, seed=1, level=0.99)
    assert wider.low is not None
    assert wider.high is not None
    assert wider.low < found.low < found.high < wider.high
    assert _mean(values, seed=1) == found != _mean(values, seed=2)


@pytest.mark.parametrize("count", [2, 7, 300])
def test_sums_of_pictures_give_the_means_of_all_their_values(count: int) -> None:
    groups = _groups(count)
    sizes, sums = resampled_sums(np.array([[len(group), group.sum()] for group in groups]).T, seed=3)
    np.testing.assert_allclose(ratio(sums, sizes), _drawn(groups, np.mean, 3), rtol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_medians_are_those_of_all_values(count: int) -> None:
    groups = _groups(count, seed=count)
    places = np.repeat(np.arange(count, dtype=np.int32), list(map(len, groups)))
    found = resampled_medians(np.concatenate(groups), places, count, seed=5)
    assert np.array_equal(found, _drawn(groups, np.median, 5)[: len(found)], equal_nan=True)
    assert len(found) == (1 if count == 1 else 1001)


def test_medians_are_found_where_few_pictures_have_most_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here some drawings have their median far from the middle, so that a second look is needed."""
    groups = [np.full(20_000, 0.5) + np.linspace(0, 0.1, 20_000), *np.linspace(0.8, 1, 400)[:, None]]
    places = np.repeat(np.arange(401, dtype=np.int32), list(map(len, groups)))
    shares = []
    within = intervals._medians_within

    def watched(*args: Any) -> Any:
        shares.append(args[3])
        return within(*args)

    monkeypatch.setattr(intervals, "_medians_within", watched)
    found = resampled_medians(np.concatenate(groups), places, 401, seed=0)
    assert np.array_equal(found, _drawn(groups, np.median, 0))
    assert shares == [pytest.approx(4 / math.sqrt(401)), 1.0]


def test_whole_pictures_are_drawn() -> None:
    """Equal values within a picture carry no more information than one of them."""
    once = np.random.default_rng(0).normal(0, 1, 30)
    sums, sizes = resampled_sums(np.stack([50 * once, np.full(30, 50.0)]), seed=3)
    assert _mean(once, seed=3).low == pytest.approx(estimate(ratio(sums, sizes)).low)


def test_a_single_picture_has_no_interval() -> None:
    found = _mean(np.array([1.5]), seed=0)
    assert found == Estimate(1.5, None, None)
    assert found.interval() == found.percent_interval() == "–"


def test_a_statistic_that_is_not_finite_has_no_interval() -> None:
    assert np.isnan(ratio(np.ones(2), np.array([0.0, np.nan]))).all()
    assert estimate(np.array([0.5, 0.1, np.nan])) == Estimate(0.5, None, None)


def test_each_drawing_has_as_many_pictures_as_there_are() -> None:
    found = np.array(list(drawings(12, seed=4)))
    assert found.shape == (1001, 12)
    assert (found[0] == 1).all()
    assert (found.sum(axis=1) == 12).all()
