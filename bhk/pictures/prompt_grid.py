"""Prompts for pictures that nobody annotated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bhk.pictures.prompts import Prompt

_SMALLEST, _LARGEST = 0.08, 0.8  # sides of boxes, as shares of the picture's


def grid_prompts(width: int, height: int, seed: tuple[int, ...], points: int, boxes: int) -> tuple[Prompt, ...]:
    """Return prompts all over a picture, the same for equal arguments: first the points, then the boxes.

    Points, and the centres of boxes, are drawn one in each cell of a grid, so that no part of the picture is left out.
    Sides of boxes are drawn between 8 and 80 % of the picture's, small ones as often as large ones (log-uniform); what
    sticks out is cut off.

    Args:
        width, height: of the picture in pixels.
        seed: such as (seed, number of the picture).
        points, boxes: how many of each.
    """
    on = np.random.default_rng((*seed, 0))
    around = np.random.default_rng((*seed, 1))
    found = [Prompt(points=((float(x), float(y)),)) for x, y in np.floor(_jittered(on, width, height, points))]
    centres = _jittered(around, width, height, boxes)
    sides = np.exp(around.uniform(math.log(_SMALLEST), math.log(_LARGEST), (boxes, 2))) * (width, height)
    for (x, y), (wide, high) in zip(centres, sides, strict=True):
        x0, x1 = _within(x, wide, width)
        y0, y1 = _within(y, high, height)
        found.append(Prompt(box=(x0, y0, x1, y1)))
    return tuple(found)


def _jittered(rng: np.random.Generator, width: int, height: int, count: int) -> NDArray[np.float64]:
    """Return (count, 2) places (x, y) in the picture, each in a cell of its own of a regular grid."""
    columns = max(1, round(math.sqrt(count * width / height)))
    rows = max(1, math.ceil(count / columns))
    cells = np.sort(rng.choice(rows * columns, count, replace=False))
    corners = np.stack([cells % columns, cells // columns], axis=1)
    share = (corners + rng.random((count, 2))) / (columns, rows)
    return np.minimum(share * (width, height), np.nextafter((width, height), 0))  # rounding could reach the edge


def _within(centre: float, side: float, length: int) -> tuple[float, float]:
    """Return the ends of an interval in whole pixels, at least one, cut to 0 ... length."""
    low = max(0, math.floor(centre - side / 2))
    return float(low), float(min(length, max(low + 1, math.ceil(centre + side / 2))))
