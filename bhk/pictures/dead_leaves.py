"""Generated pictures: dead leaves, which have the statistics of natural pictures, and white noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bhk.pictures.scenes import SMALLEST_AREA, Scene

_DISCS = 60
_SMALLEST, _LARGEST = 0.03, 0.35  # radii of discs, as fractions of the side
_NOISE = 8  # largest deviation of a pixel, in grey levels


def dead_leaves(seed: int, size: int) -> Scene:
    """Return a picture of dead leaves: discs, each of one colour, that cover one another, with a little noise.

    The density of radii r is r^-3 between two bounds, which gives the picture the statistics of natural ones (Lee,
    Mumford and Huang, "Occlusion models for natural images", 2001). It is the same on every machine, because it is
    computed with integers and square roots only.

    Args:
        seed: an integer from 0.
        size: side of the square picture in pixels.
    """
    rng = np.random.default_rng((seed, size))
    canvas = np.empty((size, size, 3), np.int16)
    canvas[:] = rng.integers(0, 256, 3)
    front = np.zeros((size, size), np.uint8)
    for number in range(1, _DISCS + 1):
        power = rng.random()
        radius = size / math.sqrt(power / _LARGEST**2 + (1 - power) / _SMALLEST**2)
        rows, columns, inside = _disc(rng.random(2) * size, radius, size)
        canvas[rows, columns][inside] = rng.integers(0, 256, 3)
        front[rows, columns][inside] = number
    canvas += rng.integers(-_NOISE, _NOISE + 1, canvas.shape, np.int16)
    return Scene(canvas.clip(0, 255).astype(np.uint8), _visible(front))


def _disc(centre: NDArray[np.float64], radius: float, size: int) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Return the rows and columns around a disc, and a mask of its pixels there."""
    rows, columns = (slice(max(0, math.floor(at - radius)), min(size, math.ceil(at + radius) + 1)) for at in centre)
    down = np.arange(rows.start, rows.stop)[:, None] - centre[0]
    aside = np.arange(columns.start, columns.stop) - centre[1]
    return rows, columns, down**2 + aside**2 < radius**2


def _visible(front: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return masks (objects, height, width) of the discs that are large enough where they are visible, largest first."""
    areas = np.bincount(front.ravel(), minlength=_DISCS + 1)
    areas[0] = 0
    largest_first = np.argsort(-areas, kind="stable")
    numbers = largest_first[areas[largest_first] >= SMALLEST_AREA * front.size]
    return front == numbers[:, None, None]  # type: ignore[no-any-return]


def white_noise(seed: int, size: int) -> Scene:
    """Return a picture of uniform noise, with the masks of the dead leaves of the same seed."""
    picture = np.random.default_rng((seed, size, 1)).integers(0, 256, (size, size, 3), np.uint8)
    return Scene(picture, dead_leaves(seed, size).masks)
