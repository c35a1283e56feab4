from __future__ import annotations

import math

import numpy as np
import pytest

from bhk.evaluation.intervals import bootstrap, times_drawn, with_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(list(values[:, None]), np.mean, seed=1)
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(found.value - error, abs=error / 5)
    assert found.high == pytest.approx(found.value + error, abs=error / 5)
    wider = bootstrap(list(values[:, None]), np.mean, seed=1, level=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_whole_pictures_are_drawn() -> None:
    """Equal values within a picture carry no more information than one of them."""
    once = list(np.random.default_rng(0).normal(0, 1, (30, 1)))
    often = [np.repeat(group, 50) for group in once]
    assert bootstrap(once, np.mean, seed=3).low == pytest.approx(bootstrap(often, np.mean, seed=3).low)


def test_seeds_and_any_statistic() -> None:
    groups = [np.arange(count, dtype=float) for count in (3, 5, 1, 7)]
    found = bootstrap(groups, np.median, seed=0)
    assert found == bootstrap(groups, np.median, seed=0)
    assert found != bootstrap(groups, np.mean, seed=0)
    pairs = [np.stack([group, group + 2], axis=1) for group in groups]
    shifted = bootstrap(pairs, lambda rows: float((rows[:, 1] - rows[:, 0]).mean()), seed=0)
    assert (shifted.value, shifted.low, shifted.high) == (2, 2, 2)


def test_a_single_picture_has_no_interval() -> None:
    found = bootstrap([np.array([1.0, 2.0])], np.mean, seed=0)
    assert found.value == 1.5
    assert (found.low, found.high) == (None, None)
    assert found.interval() == found.percent_interval() == "–"
    with pytest.raises(ValueError, match="no groups"):
        bootstrap([], np.mean, seed=0)


def test_times_drawn_are_the_drawings_of_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(0, 1, 12)
    means = times_drawn(12, seed=4) @ values / 12
    assert with_interval(float(values.mean()), means) == pytest.approx(
        bootstrap(list(values[:, None]), np.mean, seed=4)
    )
    assert with_interval(0.5, [0.1, np.nan]).low is None
