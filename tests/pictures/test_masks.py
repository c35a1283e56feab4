from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from bhk.pictures.masks import Mask, boundary_iou, bounding_box, innermost_point, mask_iou, most_alike
from bhk.pictures.scenes import make_scene


def _random_mask(seed: int, height: int, width: int) -> Mask:
    rng = np.random.default_rng(seed)
    coarse = rng.random((-(-height // 5), -(-width // 5))) < rng.uniform(0.2, 0.9)
    return np.kron(coarse, np.ones((5, 5), bool))[:height, :width]


_MASKS = st.builds(_random_mask, st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40))


def test_iou() -> None:
    a, b = np.zeros((2, 7, 9), bool)
    assert mask_iou(a, b) == 1
    a[1:4, 2:6] = True
    assert mask_iou(a, b) == mask_iou(b, a) == 0
    b[2:5, 2:6] = True
    assert mask_iou(a, b) == 8 / 16
    assert mask_iou(a, a) == 1


def _band_by_squares(mask: Mask, width: int) -> Mask:
    squares = sliding_window_view(np.pad(mask, width), (2 * width + 1, 2 * width + 1))
    return mask & ~squares.all(axis=(2, 3))


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.1, 0.6])
@pytest.mark.parametrize("seed", [0, 1])
def test_boundary_iou_is_that_of_erosion_by_squares(seed: int, ratio: float) -> None:
    a, b = _random_mask(seed, 61, 103), _random_mask(seed + 2, 61, 103)
    width = max(1, round(ratio * np.hypot(61, 103)))
    assert boundary_iou(a, b, ratio) == mask_iou(_band_by_squares(a, width), _band_by_squares(b, width))


def test_boundary_iou_shows_what_iou_does_not() -> None:
    a, b = np.zeros((2, 200, 200), bool)
    a[20:180, 20:180] = True
    b[25:180, 20:180] = True
    assert mask_iou(a, b) > 0.96
    assert boundary_iou(a, b) < 0.75
    assert boundary_iou(a, a) == boundary_iou(a ^ a, b ^ b) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_small_pictures(shape: tuple[int, int]) -> None:
    full = np.ones(shape, bool)
    assert boundary_iou(full, full) == 1
    assert bounding_box(full) == (0, 0, shape[1], shape[0])
    x, y = innermost_point(full)
    assert (x, y) == (0, 0)  # every pixel touches the outside


def test_bounding_box() -> None:
    mask = np.zeros((10, 20), bool)
    assert bounding_box(mask) == (0, 0, 0, 0)
    mask[2:5, 3:9] = mask[7, 15] = True
    assert bounding_box(mask) == (3, 2, 16, 8)


@settings(deadline=None, max_examples=50)
@given(_MASKS)
def test_innermost_point_is_the_farthest_from_the_outside(mask: Mask) -> None:
    if not mask.any():
        return
    padded = np.pad(mask, 1)
    inside, outside = np.argwhere(padded), np.argwhere(~padded)
    squared = ((inside[:, None] - outside) ** 2).sum(axis=2).min(axis=1)
    row, column = inside[squared.argmax()] - 1
    assert innermost_point(mask) == (column, row)


def test_innermost_point_lies_on_the_object() -> None:
    ring = np.zeros((300, 300), bool)
    ring[10:290, 10:290] = True
    ring[60:270, 30:270] = False
    assert innermost_point(ring)[1] in (34, 35)
    for mask in make_scene(1 << 40).masks:
        x, y = innermost_point(mask)
        assert mask[y, x]
    with pytest.raises(ValueError, match="an empty mask has no innermost point"):
        innermost_point(ring & ~ring)


def test_each_mask_is_in_one_pair_at_most_and_the_most_alike_come_first() -> None:
    def square(x: int, side: int) -> Mask:
        mask = np.zeros((20, 20), bool)
        mask[:side, x : x + side] = True
        return mask

    masks, others = [square(0, 4), square(1, 4), square(16, 2)], [square(1, 4), square(0, 3), square(9, 2)]
    assert most_alike(masks, others) == [(1, 0, 1.0), (0, 1, 9 / 16)]
    assert most_alike([], others) == most_alike(masks, []) == []
