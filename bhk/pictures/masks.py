"""How similar two masks are, and where a mask lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]  # (height, width)

BAND = 0.02  # width of the band along a mask's edge, as a fraction of the picture's diagonal


def mask_iou(a: Mask, b: Mask) -> float:
    """Return the intersection over union of two masks of the same shape, 0 ... 1; 1 for two empty masks."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def boundary_iou(a: Mask, b: Mask, ratio: float = BAND) -> float:
    """Return the IoU of the bands just inside the edges of two masks, 0 ... 1; 1 for two empty masks.

    Source: Cheng, Girshick, Dollár, Berg and Kirillov, "Boundary IoU", CVPR 2021. As in their code, a distance is the
    larger of those in rows and columns, and everything beyond the picture counts as outside the mask.

    Args:
        a, b: masks of the same shape.
        ratio: width of the band, as a fraction of the picture's diagonal; it is at least one pixel wide.
    """
    width = max(1, round(ratio * math.hypot(*a.shape)))
    return mask_iou(_band(a, width), _band(b, width))


def most_alike(
    masks: Sequence[Mask] | NDArray[np.bool_], others: Sequence[Mask] | NDArray[np.bool_]
) -> list[tuple[int, int, float]]:
    """Return pairs of masks that overlap, each mask in one pair at most, and their IoU: the pair most alike first, and so on.

    Returns:
        (index in `masks`, index in `others`, IoU) of each pair.
    """
    found: list[tuple[int, int, float]] = []
    left, other_left = set(range(len(masks))), set(range(len(others)))
    alike = ((mask_iou(a, b), i, j) for i, a in enumerate(masks) for j, b in enumerate(others))
    for iou, i, j in sorted(alike, key=lambda pair: -pair[0]):
        if iou and i in left and j in other_left:
            left.remove(i)
            other_left.remove(j)
            found.append((i, j, iou))
    return found


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) of the smallest box around a mask, x1 and y1 exclusive; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def innermost_point(mask: Mask) -> tuple[int, int]:
    """Return (x, y) of the pixel of a mask that is farthest from all pixels outside it (Euclidean distance).

    Everything beyond the picture counts as outside. If several pixels are equally far, it is the first in row order.

    Raises:
        ValueError: the mask is empty.
    """
    x0, y0, x1, y1 = bounding_box(mask)
    if x0 == x1:
        raise ValueError("an empty mask has no innermost point")
    squared = _squared_distances(np.pad(mask[y0:y1, x0:x1], 1))
    row, column = np.unravel_index(squared.argmax(), squared.shape)
    return x0 + int(column) - 1, y0 + int(row) - 1


def _band(mask: Mask, width: int) -> Mask:
    """Return the pixels of a mask within `width` pixels of one outside it."""
    return mask & ~_eroded(_eroded(mask, width, 0), width, 1)


def _eroded(mask: Mask, width: int, axis: int) -> Mask:
    """Return the pixels whose `width` neighbours on either side along an axis are all in the mask."""
    padding = [(width + 1, width) if dim == axis else (0, 0) for dim in range(2)]
    counts = np.cumsum(np.pad(mask, padding), axis=axis, dtype=np.int32)
    length, window = mask.shape[axis], 2 * width + 1
    last = np.take(counts, range(window, window + length), axis)
    return last - np.take(counts, range(length), axis) == window  # type: ignore[no-any-return]


def _squared_distances(mask: Mask) -> NDArray[np.int64]:
    """Return the exact squared distance from each pixel to the nearest one outside the mask, whose border is empty.

    It first finds distances within columns, then compares neighbouring columns up to the largest distance.
    """
    squared = _column_distances(mask) ** 2
    nearest = squared.copy()
    for offset in range(1, mask.shape[1]):
        if offset**2 >= nearest.max():
            break
        further = squared + offset**2
        np.minimum(nearest[:, offset:], further[:, :-offset], out=nearest[:, offset:])
        np.minimum(nearest[:, :-offset], further[:, offset:], out=nearest[:, :-offset])
    return nearest


def _column_distances(mask: Mask) -> NDArray[np.int64]:
    """Return the distance from each pixel to the nearest one outside the mask in the same column."""
    rows = np.arange(len(mask))[:, None]
    above = np.maximum.accumulate(np.where(mask, 0, rows), axis=0)
    below = np.minimum.accumulate(np.where(mask, len(mask) - 1, rows)[::-1], axis=0)[::-1]
    distances: NDArray[Any] = np.minimum(rows - above, below - rows)
    return distances.astype(np.int64)
