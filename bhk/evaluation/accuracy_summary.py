"""Accuracy over all pictures: mIoU, its drop against the original, and AP."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhk.evaluation.accuracy import Answer, ImageAccuracy, PromptKind
from bhk.evaluation.annotations.dataset import Annotations
from bhk.evaluation.average_precision import FoundMask, Precision, Scope, TrueMask, average_precision
from bhk.evaluation.intervals import Estimate, bootstrap

_SMALL, _LARGE = 32**2, 96**2  # pixels; the size classes of COCO

Answers = Callable[[ImageAccuracy], tuple[Answer, ...]]  # picks the answers of one of the two models


@dataclass(frozen=True)
class PromptAccuracy:
    """A model's accuracy for one kind of prompt. Intervals are 95 % bootstrap intervals over pictures.

    Attributes:
        prompt: the kind: boxes or innermost points of the annotated objects, or boxes of a detector.
        masks: number of masks.
        miou: mean IoU over objects; None for detections, which belong to no object.
        small, medium, large: mean IoU of objects below 32² pixels, below 96², and larger; None without such objects.
        oracle: mean of the highest IoU in each multimask output; None for the single mask.
        precision: AP of the masks, ranked by the detector's score or else by predicted IoU. None for SA-1B.
    """

    prompt: PromptKind
    masks: int
    miou: Estimate | None
    small: Estimate | None
    medium: Estimate | None
    large: Estimate | None
    oracle: Estimate | None
    precision: Precision | None


@dataclass(frozen=True)
class Drop:
    """How much accuracy a model loses against the original.

    Attributes:
        prompt: the kind of prompt.
        miou: relative drop of mIoU, 1 - model / original. The bootstrap draws the same pictures for both models.
    """

    prompt: PromptKind
    miou: Estimate


def prompt_accuracy(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations, seed: int
) -> PromptAccuracy:
    """Return a model's accuracy for one kind of prompt.

    Args:
        images: all pictures.
        answers: picks the model's answers from the result for a picture.
        prompt: the kind of prompt.
        annotations: the annotations, for their categories.
        seed: seed of the bootstrap.
    """

    def mean(value: Callable[[Answer], float | None], low: float = 0, high: float = math.inf) -> Estimate | None:
        groups = [
            np.array(values)
            for image in images
            if (
                values := [
                    found
                    for answer in _of(answers(image), prompt)
                    if (found := value(answer)) is not None and low <= image.objects[answer.about].area < high
                ]
            )
        ]
        return bootstrap(groups, np.mean, seed=seed) if groups else None

    return PromptAccuracy(
        prompt=prompt,
        masks=sum(len(_of(answers(image), prompt)) for image in images),
        miou=mean(_iou),
        small=mean(_iou, 0, _SMALL),
        medium=mean(_iou, _SMALL, _LARGE),
        large=mean(_iou, _LARGE),
        oracle=mean(lambda answer: answer.oracle),
        precision=_precision(images, answers, prompt, annotations) if annotations.categories else None,
    )


def relative_drop(images: Sequence[ImageAccuracy], prompt: PromptKind, seed: int) -> Drop | None:
    """Return how much mIoU the model loses against the original; None for prompts without mIoU, or if it is 0."""
    groups = [
        np.array([(found.iou, original.iou) for found, original in pairs])
        for image in images
        if (pairs := list(zip(_of(image.model, prompt), _of(image.against, prompt), strict=True)))
    ]
    drop = bootstrap(groups, _drop, seed=seed) if groups else None
    return None if drop is None or math.isnan(drop.value) else Drop(prompt, drop)


def _of(answers: Sequence[Answer], prompt: PromptKind) -> list[Answer]:
    return [answer for answer in answers if answer.kind == prompt]


def _iou(answer: Answer) -> float | None:
    return answer.iou


def _drop(pairs: NDArray[Any]) -> float:
    found, original = pairs.mean(axis=0)
    return float(1 - found / original) if original else math.nan


def _precision(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations
) -> Precision:
    return average_precision(
        [Scope(image.image, image.height, image.width, image.absent, image.incomplete) for image in images],
        annotations.categories,
        [
            TrueMask(image.image, entry.category, entry.mask, entry.area, entry.crowd)
            for image in images
            for entry in image.objects
            if entry.category is not None
        ],
        [_found(image, answer) for image in images for answer in _of(answers(image), prompt)],
        lvis=annotations.format == "lvis",
    )


def _found(image: ImageAccuracy, answer: Answer) -> FoundMask:
    assert answer.mask is not None  # kept whenever there are categories
    if answer.kind != "detections":
        return FoundMask(image.image, image.objects[answer.about].category, answer.mask, answer.score)
    detection = image.detections[answer.about]
    score = answer.score if detection.score is None else detection.score
    return FoundMask(image.image, detection.category, answer.mask, score)
