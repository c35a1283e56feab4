from __future__ import annotations

import numpy as np
import pytest
from sam import models

from bhk.evaluation.accuracy import Answer, ImageAccuracy, PromptKind, TrueObject, image_accuracy, questions_about
from bhk.evaluation.accuracy_summary import AccuracySums, PromptAccuracy
from bhk.evaluation.annotations.segmentation import encode
from bhk.evaluation.detections import Detection
from bhk.evaluation.models import Subject
from bhk.pictures.masks import innermost_point, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import make_scene

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
