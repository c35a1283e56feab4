from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from sam import models

from bhk.evaluation.accuracy import (
    Answer,
    ImageAccuracy,
    PromptKind,
    TrueObject,
    image_accuracy,
    questions_about,
    searches_in,
)
from bhk.evaluation.accuracy_summary import AccuracySums, PromptAccuracy, precision_drop, precision_of
from bhk.evaluation.annotations import Annotations
from bhk.evaluation.annotations.dataset import Category
from bhk.evaluation.annotations.segmentation import encode
from bhk.evaluation.detections import Detection
from bhk.evaluation.models import Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import Mask, innermost_point, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import make_scene
from bhk.sam.prediction.predictor import Masks

_SCENE = make_scene(1 << 40, 64)
_OBJECTS = tuple(
    TrueObject(1, float(mask.sum()), index == 2, (1.0, 2.0, 40.0, 50.0), encode(mask))
    for index, mask in enumerate(_SCENE.masks[:3])
)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(models.small_sam())


def test_objects_are_prompted_by_box_and_innermost_point_but_crowds_are_not() -> None:
    detection = Detection(None, (5.0, 5.0, 9.0, 9.0), None)
    found = questions_about(_OBJECTS, [detection], ("box", "point"))
    assert [(question.kind, question.about) for question in found] == [
        ("box", 0),
        ("point", 0),
        ("box", 1),
        ("point", 1),
        ("detections", 0),
    ]
    assert found[0].prompt == Prompt(box=(1, 2, 40, 50))
    assert found[1].prompt.points == (innermost_point(_SCENE.masks[0]),)
    assert found[4].prompt == Prompt(box=detection.box)
    assert found[4].truth is None


def test_the_single_mask_counts(subject: Subject) -> None:
    questions = questions_about(_OBJECTS[:1], (), ("box", "point"))
    found = image_accuracy(subject, _SCENE.picture, questions, output="single", keep_masks=True)
    for answer, question in zip(found, questions, strict=True):
        masks, scores = subject.answer(question.prompt, multimask=False)
        assert answer.mask is not None
        assert np.array_equal(answer.mask.decode(), masks[0])
        assert (answer.score, answer.iou) == (scores[0], mask_iou(masks[0], _SCENE.masks[0]))
        assert answer.oracle is None


def test_the_best_scored_mask_counts_and_the_oracle_is_separate(subject: Subject) -> None:
    (question,) = questions_about(_OBJECTS[:1], (), ("point",))
    (found,) = image_accuracy(subject, _SCENE.picture, [question], output="multi", keep_masks=False)
    masks, scores = subject.answer(question.prompt, multimask=True)
    ious = [mask_iou(mask, _SCENE.masks[0]) for mask in masks]
    assert (found.iou, found.oracle) == (ious[int(scores.argmax())], max(ious))
    assert found.mask is None


def _image(ious: list[float], originals: list[float], areas: list[float]) -> ImageAccuracy:
    mask = encode(np.ones((1, 1), bool))
    objects = tuple(TrueObject(None, area, False, (0, 0, 1, 1), mask) for area in areas)
    model, against = (
        tuple(Answer("box", index, 0.5, iou, None, None) for index, iou in enumerate(values))
        for values in (ious, originals)
    )
    return ImageAccuracy(1, 1, 1, objects, (), (model,), against)


def _sums(images: list[ImageAccuracy], prompt: PromptKind) -> tuple[AccuracySums, AccuracySums]:
    """Return the sums of the model and of the original."""
    found, original = AccuracySums(prompt), AccuracySums(prompt)
    for image in images:
        found.add(image, image.models[0])
        original.add(image, image.against)
    return found, original


def _accuracy(images: list[ImageAccuracy], prompt: PromptKind) -> PromptAccuracy:
    return _sums(images, prompt)[0].accuracy(None, seed=0)


def test_miou_is_the_mean_over_objects_with_the_size_classes_of_coco() -> None:
    images = [_image([0.2, 0.4, 0.9], [0.2] * 3, [10, 32**2, 96**2]), _image([0.5], [0.5], [32**2 - 1])]
    found = _accuracy(images, "box")
    assert found.masks == 4
    assert (found.miou and found.miou.value) == pytest.approx(0.5)
    assert [entry and entry.value for entry in (found.small, found.medium, found.large)] == [
        pytest.approx(0.35),
        0.4,
        0.9,
    ]
    assert [entry and entry.low for entry in (found.small, found.medium, found.large)] == [
        pytest.approx(0.2),
        None,
        None,
    ]
    assert (found.oracle, found.precision) == (None, None)
    nothing = _accuracy(images, "point")
    assert (nothing.masks, nothing.miou) == (0, None)


def test_the_drop_is_relative_and_paired() -> None:
    images = [_image([0.9 * iou], [iou], [10]) for iou in (0.1, 0.5, 0.9)]
    found, original = _sums(images, "box")
    drop = found.drop(original, None, seed=0)
    assert drop is not None
    assert drop.miou is not None
    assert (drop.miou.value, drop.miou.low, drop.miou.high) == pytest.approx((0.1, 0.1, 0.1))
    assert drop.ap is None
    found, original = _sums(images, "point")
    assert found.drop(original, None, seed=0) is None


class _Finder:
    """Finds given masks by a text, whatever the picture."""

    def __init__(self, found: dict[str, list[tuple[Mask, float]]]) -> None:
        self._found = found

    def look(self, pixels: Rgb) -> None: ...

    def answer(self, prompt: Prompt, *, multimask: bool) -> Masks:
        masks, scores = zip(*self._found[prompt.text or ""], strict=True)
        return np.array(masks), np.array(scores, np.float32)


def _square(x: int, y: int, side: int) -> Mask:
    mask = np.zeros((64, 64), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_objects_are_found_by_the_name_of_their_category() -> None:
    squares = [(1, _square(0, 0, 10)), (2, _square(30, 0, 10)), (1, _square(0, 40, 10)), (1, _square(50, 50, 10))]
    objects = tuple(
        TrueObject(category, 100.0, index == 3, (0, 0, 1, 1), encode(mask))
        for index, (category, mask) in enumerate(squares)
    )
    searches = searches_in(objects, {1: "cup", 2: "wine glass", 3: "spoon"})
    assert [(search.prompt.text, search.objects) for search in searches] == [("cup", (0, 2)), ("wine glass", (1,))]
    finder = _Finder(
        {
            "cup": [(_square(20, 20, 9), 0.9), (_square(0, 0, 5), 0.8), (_square(0, 0, 10), 0.6)],
            "wine glass": [(_square(30, 0, 10), 0.7)],
        }
    )
    pixels = np.zeros((64, 64, 3), np.uint8)
    found = image_accuracy(cast("Subject", finder), pixels, searches, output="single", keep_masks=True)
    assert [(answer.about, answer.iou, answer.category) for answer in found] == [
        (0, 1.0, None),  # not the surest mask, but the one most like it
        (2, 0.0, None),
        (None, None, 1),
        (None, None, 1),
        (1, 1.0, None),
    ]
    assert found[1].mask is None
    assert [answer.score for answer in found] == pytest.approx([0.6, 0, 0.9, 0.8, 0.7])

    truth = Annotations("coco", (), frozenset({1}), (Category(1, "cup"), Category(2, "wine_glass")), ())
    image = ImageAccuracy(1, 64, 64, objects, (), (found,), found)
    precision = precision_of([image], lambda image: image.models[0], "text", truth)
    sums, original = _sums([image], "text")
    summary = sums.accuracy(precision, seed=0)
    assert summary.masks == 4
    assert (summary.miou and summary.miou.value) == pytest.approx(2 / 3)
    assert summary.precision is not None
    # Of the cups, the third surest mask is right: precision 1/3 up to a recall of 1/2, at 51 of 101 recalls.
    assert summary.precision.ap50 == pytest.approx((51 / 101 / 3 + 1) / 2)
    ap = precision_drop([image], lambda image: image.models[0], "text", truth, seed=0)
    drop = sums.drop(original, ap, seed=0)
    assert drop is not None
    assert drop.miou is not None
    assert drop.ap is not None
    assert drop.miou.value == drop.ap.value == 0


def test_the_text_of_a_category_has_spaces() -> None:
    assert [Category(1, name).text for name in ("wine_glass", " traffic  light", "_")] == [
        "wine glass",
        "traffic light",
        "",
    ]
