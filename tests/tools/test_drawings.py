from __future__ import annotations

from tools.drawings.rate_plot import CURVES, settings
from tools.drawings.winding_line import PAIR, WINDINGS, point_of, step_of


def distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


def test_the_pair_that_is_drawn_gets_its_nearest_step() -> None:
    nearest = min(range(WINDINGS**2), key=lambda step: distance(point_of(step), PAIR))
    assert step_of(PAIR) == nearest


def test_every_curve_of_the_plot_has_settings() -> None:
    assert all(settings(curve) for curve in CURVES)
