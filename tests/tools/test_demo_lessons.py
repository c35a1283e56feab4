from __future__ import annotations

import numpy as np
import pytest
import torch

from bhk.pictures.scenes import make_scene
from tools import demo_lessons as tool


def test_lessons_depend_on_their_seeds_alone() -> None:
    first, again = tool.prepare([5, 6]), tool.prepare([5, 6])
    for name in ("pictures", "kept", "points", "labels", "masks", "boxes", "edges"):
        assert torch.equal(torch.nan_to_num(getattr(first, name)), torch.nan_to_num(getattr(again, name)))


def test_answers_are_those_of_the_prompts() -> None:
    lesson = tool.prepare(list(range(12)))
    for points, labels, masks in zip(lesson.points, lesson.labels, lesson.masks, strict=True):
        for (first, second), kinds, mask in zip(points, labels.tolist(), masks, strict=True):
            covered = torch.nonzero(mask > 0).flip(1) * (tool.SIZE / tool.LOW)
            if kinds == [2, 3]:  # a box: within 4 pixels of what it stands around, and those of the coarse mask
                assert (first - covered.amin(0)).abs().max() <= 4 + tool.SIZE / tool.LOW
                assert (second - covered.amax(0)).abs().max() <= 4 + 2 * tool.SIZE / tool.LOW
            else:
                x, y = (first * tool.LOW / tool.SIZE).long().tolist()
                assert kinds[0] == 1
                assert mask[y, x] > 0


def test_boxes_beside_the_embedding_are_those_of_the_objects() -> None:
    seed = next(seed for seed in range(50) if tool.prepare([seed]).kept.min() == tool.SIZE)
    scene, extents = make_scene(seed, tool.SIZE), tool.prepare([seed]).boxes[0]
    row, column = torch.nonzero(~extents[0].isnan())[0].tolist()
    y, x = row * tool.PATCH + tool.PATCH // 2, column * tool.PATCH + tool.PATCH // 2
    (mask,) = [mask for mask in scene.masks if mask[y, x]]
    columns = np.flatnonzero(mask.any(0))
    left, right = extents[0, row, column] * tool.SIZE, extents[2, row, column] * tool.SIZE
    assert (x - float(left), x + float(right)) == pytest.approx((columns[0], columns[-1] + 1))
