"""Prompts for pictures without annotations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bhk.pictures.prompts import Prompt

_SMALLEST, _LARGEST = 0.08, 0.8  # sides of boxes, as fractions of the picture's


def grid_prompts(width: int, height: int, seed: tuple[int, ...], points: int, boxes: int) -> tuple[Prompt, ...]:
    """Return prompts all over a picture: first the points, then the boxes. Equal arguments give equal prompts.

    Each point, and the centre of each box, is drawn in another cell of a grid, so that they cover the whole picture. Sides
    of boxes are log-uniform between 8 and 80 % of the picture's sides; boxes are cut at the edge of the picture.

    Args:
        width, height: size of the picture in pixels.
        seed: for example (seed, number of the picture).
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
    """Return (count, 2) places (x, y) in the picture, each in another cell of a regular grid."""
    columns = max(1, round(math.sqrt(count * width / height)))
    rows = max(1, math.ceil(count / columns))
    cells = np.sort(rng.choice(rows * columns, count, replace=False))
    corners = np.stack([cells % columns, cells // columns], axis=1)
    share = (corners + rng.random((count, 2))) / (columns, rows)
    return np.minimum(share * (width, height), np.nextafter((width, height), 0))  # rounding could reach the edge


def _within(centre: float, side: float, length: int) -> tuple[float, float]:
    """Return the ends of an interval, in whole pixels and within 0 ... length; it is at least one pixel long."""
    low = max(0, math.floor(centre - side / 2))
    return float(low), float(min(length, max(low + 1, math.ceil(centre + side / 2))))
