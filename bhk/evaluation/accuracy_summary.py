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
from bhk.evaluation.intervals import Estimate, bootstrap, times_drawn, with_interval
from bhk.evaluation.resampled_precision import matched, resampled_ap

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
    """How much accuracy a model loses against the original, as a share: 1 - model / original.

    Intervals are 95 % bootstrap intervals over pictures; both models are measured on the same drawings.

    Attributes:
        prompt: the kind of prompt.
        miou: drop of mIoU; None for detections, which have none.
        ap: drop of AP; None for SA-1B, which has none.
    """

    prompt: PromptKind
    miou: Estimate | None
    ap: Estimate | None = None

    @property
    def described(self) -> str:
        """The drops as text: "mIoU 1.32 % (1.00 % … 2.00 %), AP 0.87 % (0.40 % … 1.31 %)"."""
        found = {"mIoU": self.miou, "AP": self.ap}
        return ", ".join(
            f"{name} {drop.percent()} ({drop.percent_interval()})" for name, drop in found.items() if drop is not None
        )


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


def relative_drop(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations, seed: int
) -> Drop | None:
    """Return how much accuracy the model loses against the original; None if the original has none to lose.

    Args:
        images, answers, prompt, annotations, seed: see `prompt_accuracy`.
    """
    miou = None if prompt == "detections" else _miou_drop(images, answers, prompt, seed)
    ap = _ap_drop(images, answers, prompt, annotations, seed) if annotations.categories else None
    return None if miou is None and ap is None else Drop(prompt, miou, ap)


def _miou_drop(images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, seed: int) -> Estimate | None:
    groups = [
        np.array([(found.iou, original.iou) for found, original in pairs])
        for image in images
        if (pairs := list(zip(_of(answers(image), prompt), _of(image.against, prompt), strict=True)))
    ]
    drop = bootstrap(groups, _drop, seed=seed) if groups else None
    return None if drop is None or math.isnan(drop.value) else drop


def _ap_drop(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations, seed: int
) -> Estimate | None:
    weights = np.vstack([np.ones((1, len(images)), np.int64), times_drawn(len(images), seed=seed)])
    scopes, truths = _scopes(images), _truths(images)
    model, original = (
        resampled_ap(matched(scopes, truths, _masks(images, of, prompt), lvis=annotations.format == "lvis"), weights)
        for of in (answers, lambda image: image.against)
    )
    drops = 1 - np.divide(model, original, out=np.full(len(weights), np.nan), where=original > 0)
    if math.isnan(drops[0]):
        return None
    return Estimate(float(drops[0]), None, None) if len(images) == 1 else with_interval(float(drops[0]), drops[1:])


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
        _scopes(images),
        annotations.categories,
        _truths(images),
        _masks(images, answers, prompt),
        lvis=annotations.format == "lvis",
    )


def _scopes(images: Sequence[ImageAccuracy]) -> list[Scope]:
    return [Scope(image.image, image.height, image.width, image.absent, image.incomplete) for image in images]


def _truths(images: Sequence[ImageAccuracy]) -> list[TrueMask]:
    return [
        TrueMask(image.image, entry.category, entry.mask, entry.area, entry.crowd)
        for image in images
        for entry in image.objects
        if entry.category is not None
    ]


def _masks(images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind) -> list[FoundMask]:
    return [_found(image, answer) for image in images for answer in _of(answers(image), prompt)]


def _found(image: ImageAccuracy, answer: Answer) -> FoundMask:
    assert answer.mask is not None  # kept whenever there are categories
    if answer.kind != "detections":
        return FoundMask(image.image, image.objects[answer.about].category, answer.mask, answer.score)
    detection = image.detections[answer.about]
    score = answer.score if detection.score is None else detection.score
    return FoundMask(image.image, detection.category, answer.mask, score)
