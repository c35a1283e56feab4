from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bhk.pictures.overlay import COLOURS, OPACITY, draw
from bhk.pictures.prompts import Prompt

_GREY = np.full((60, 80, 3), 100, dtype=np.uint8)


def _disc(x: int, y: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:60, :80]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def _tinted(colour: tuple[int, int, int]) -> list[int]:
    return [round((1 - OPACITY) * 100 + OPACITY * value) for value in colour]


def test_without_masks_the_picture_is_unchanged() -> None:
    assert np.array_equal(draw(_GREY, np.zeros((0, 60, 80), bool), []), _GREY)
    assert np.array_equal(draw(_GREY, np.zeros((2, 60, 80), bool), []), _GREY)


def test_masks_are_tinted_and_outlined_in_white_and_black() -> None:
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 30:50] = True
    drawn = np.asarray(draw(_GREY, mask[None], []))
    assert drawn.shape == _GREY.shape
    assert (drawn[mask] == _tinted(COLOURS[0])).all()
    assert drawn[30, 27:31].tolist() == [[100] * 3, [0] * 3, [255] * 3, _tinted(COLOURS[0])]
    assert drawn[39:43, 40].tolist() == [_tinted(COLOURS[0]), [255] * 3, [0] * 3, [100] * 3]
    assert (_GREY == 100).all()


def test_small_masks_lie_on_top_in_another_colour() -> None:
    drawn = np.asarray(draw(_GREY, np.stack([_disc(40, 30, 5), _disc(40, 30, 25)]), []))
    large = _tinted(COLOURS[1])
    both = [(1 - OPACITY) * below + OPACITY * above for below, above in zip(large, COLOURS[0], strict=True)]
    assert drawn[30, 20].tolist() == large
    assert drawn[30, 40].tolist() == pytest.approx(both, abs=1)


def test_masks_at_the_edge_and_many_of_them() -> None:
    masks = np.stack([np.ones((60, 80), bool)] + [_disc(x, y, 3) for x in (0, 40, 79) for y in (0, 30, 59)])
    drawn = np.asarray(draw(_GREY, masks, []))
    assert drawn.shape == _GREY.shape
    assert drawn[15, 20].tolist() == _tinted(COLOURS[0])


@pytest.mark.parametrize("ground", [0, 255])
def test_outlines_and_prompts_are_visible_on_any_background(ground: int) -> None:
    picture = np.full((60, 80, 3), ground, dtype=np.uint8)
    opposite = 255 - ground
    contour = np.asarray(draw(picture, _disc(40, 30, 10)[None], []))
    assert (contour == opposite).all(axis=2).sum() > 50
    for prompt in (Prompt(((40, 30),)), Prompt(not_points=((40, 30),)), Prompt(box=(10, 10, 70, 50))):
        drawn = np.asarray(draw(picture, np.zeros((0, 60, 80), bool), [prompt])).astype(int)
        assert (np.abs(drawn - ground).max(axis=2) > 100).sum() > 50


def test_points_on_and_outside_the_object_differ() -> None:
    none = np.zeros((0, 60, 80), bool)
    on = np.asarray(draw(_GREY, none, [Prompt(((40, 30),))]))
    beside = np.asarray(draw(_GREY, none, [Prompt(not_points=((40, 30),))]))
    assert on[30, 40].tolist() == list(COLOURS[2])
    assert beside[30, 40].tolist() == [255, 255, 255]  # the bar
    assert beside[33, 40].tolist() == list(COLOURS[5])
    assert (on[:, :, 0] != 100).sum() == (beside[:, :, 0] != 100).sum()


@pytest.mark.parametrize("point", [(0, 0), (79, 59), (79.9, 0.2)])
def test_points_at_the_edge(point: tuple[float, float]) -> None:
    drawn = np.asarray(draw(_GREY, np.zeros((0, 60, 80), bool), [Prompt((point,))]))
    assert drawn[int(point[1]), int(point[0])].tolist() == list(COLOURS[2])


@pytest.mark.parametrize("box", [(0, 0, 80, 60), (10.2, 10.2, 10.9, 10.9), (79, 59, 80, 60)])
def test_boxes_of_any_size(box: tuple[float, float, float, float]) -> None:
    drawn = np.asarray(draw(_GREY, np.zeros((0, 60, 80), bool), [Prompt(box=box)]))
    assert (drawn != 100).any()


def test_a_large_picture_has_thicker_lines() -> None:
    large = np.full((1600, 1600, 3), 100, dtype=np.uint8)
    mask = np.zeros((1, 1600, 1600), dtype=bool)
    mask[:, 400:800, 400:800] = True
    column = np.asarray(draw(large, mask, []))[600, 380:400, 0].tolist()
    assert column == [100] * 10 + [0] * 5 + [255] * 5
