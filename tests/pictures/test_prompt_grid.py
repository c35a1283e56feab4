from __future__ import annotations

import numpy as np
import pytest

from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import fit_inside


@pytest.mark.parametrize("size", [(1, 1), (640, 427), (3, 2000), (1999, 2)])
def test_prompts_are_in_the_picture(size: tuple[int, int]) -> None:
    for number in range(5):
        prompts = grid_prompts(*size, (0, number), 23, 11)
        assert [prompt.box is None for prompt in prompts] == [True] * 23 + [False] * 11
        assert all(len(prompt.points) == (prompt.box is None) for prompt in prompts)
        assert fit_inside(prompts, *size) == (tuple(prompts), ())


def test_prompts_depend_only_on_seed_and_size() -> None:
    prompts = grid_prompts(64, 48, (3, 7), 5, 4)
    assert prompts == grid_prompts(64, 48, (3, 7), 5, 4)
    assert prompts[:5] == grid_prompts(64, 48, (3, 7), 5, 0)
    assert prompts[5:] == grid_prompts(64, 48, (3, 7), 0, 4)
    assert not set(prompts) & set(grid_prompts(64, 48, (3, 8), 5, 4))


def test_points_lie_all_over_the_picture() -> None:
    points = np.array([prompt.points[0] for prompt in grid_prompts(800, 400, (0,), 32, 0)])
    cells = points // 100
    assert len({tuple(cell) for cell in cells.tolist()}) == 32
    assert (points == points.round()).all()


def test_boxes_are_of_many_sizes() -> None:
    boxes = np.array([prompt.box for prompt in grid_prompts(1000, 500, (0,), 0, 400)])
    sides = (boxes[:, 2:] - boxes[:, :2]) / (1000, 500)
    assert (sides > 0.02).all()
    assert (sides <= 0.81).all()
    assert 0.15 < np.median(sides) < 0.3
