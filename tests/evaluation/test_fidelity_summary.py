from __future__ import annotations

import numpy as np
import pytest

from bhk.evaluation.fidelity import ImageFidelity
from bhk.evaluation.fidelity_summary import summarise


def _image(iou: list[float], cosine: float = 1.0) -> ImageFidelity:
    """Return two points and a box with its single mask."""
    return ImageFidelity(
        kinds=["point", "point", "box", "single"],
        iou=iou,
        boundary_iou=[value / 2 for value in iou],
        score_change=[0.1, -0.1, 0.2, 0.0],
        flips=[True, False, False, False],
        empty=[False, False, False, iou[3] == 1],
        embedding_cosine=cosine,
    )


def test_statistics() -> None:
    found = summarise([_image([0.9, 1.0, 0.8, 1.0], 0.5), _image([0.94, 0.96, 0.7, 0.5])], seed=1)
    assert found.points is not None
    assert found.boxes is not None
    assert found.single is not None
    assert [group.masks for group in (found.points, found.boxes, found.single, found.all)] == [4, 2, 2, 8]
    points = found.points
    assert points.iou_mean.value == pytest.approx(0.95)
    assert (points.iou_mean.low, points.iou_mean.high) == pytest.approx((0.95, 0.95))
    assert points.iou_median.value == pytest.approx(0.95)
    assert points.iou_percentile == pytest.approx(np.percentile([0.9, 0.94, 0.96, 1], 1))
    assert points.iou_min == 0.9
    assert points.faithful.value == 0.5
    assert points.boundary_iou.value == pytest.approx(0.475)
    assert (points.score_change.value, points.score_change_abs.value) == pytest.approx((0, 0.1))
    assert points.flips is not None
    assert points.flips.value == 0.5
    assert (found.boxes.iou_mean.low, found.boxes.iou_mean.high) == pytest.approx((0.7, 0.8))
    assert found.single.flips is None
    assert (found.single.empty, found.all.empty) == (0.5, 0.125)
    assert found.all.flips is not None
    assert found.all.flips.value == pytest.approx(1 / 3)  # single masks cannot flip
    assert (found.embedding_cosine.value, found.embedding_cosine_min) == (0.75, 0.5)


def test_kinds_without_prompts_have_no_agreement() -> None:
    image = ImageFidelity(["point"], [1.0], [1.0], [0.0], [False], [True], 1.0)
    found = summarise([image])
    assert (found.boxes, found.single) == (None, None)
    assert found.all.masks == 1
    assert found.all.iou_mean.low is None


def test_a_kind_that_few_pictures_have_counts_once_for_each_of_its_masks() -> None:
    text = ImageFidelity(["text", "text"], [0.2, 0.4], [0.2, 0.4], [0.0, 0.0], [False] * 2, [False] * 2, 1.0)
    found = summarise([_image([0.9, 1.0, 0.8, 1.0]), text, text])
    assert found.texts is not None
    assert found.texts.masks == 4
    assert found.texts.iou_mean.value == pytest.approx(0.3)
    assert found.texts.iou_median.value == pytest.approx(0.3)
    assert found.points is not None
    assert found.points.iou_mean.low is None  # some drawings have no points
    assert found.all.iou_mean.value == pytest.approx((0.9 + 1 + 0.8 + 1 + 1.2) / 8)
