"""Accuracy over all pictures: mIoU, its drop against the original, and AP.

Of each picture, a few sums are held as arrays, for each model and kind of prompt. AP alone needs all masks.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhk.evaluation.accuracy import Answer, ImageAccuracy, PromptKind
from bhk.evaluation.annotations.dataset import Annotations
from bhk.evaluation.average_precision import FoundMask, Precision, Scope, TrueMask, average_precision
from bhk.evaluation.intervals import Estimate, drawings, estimate, ratio, resampled_sums
from bhk.evaluation.resampled_precision import matched, resampled_ap

_SMALL, _LARGE = 32**2, 96**2  # pixels; the size classes of COCO
_SIZES = ((0, math.inf), (0, _SMALL), (_SMALL, _LARGE), (_LARGE, math.inf))

Answers = Callable[[ImageAccuracy], tuple[Answer, ...]]  # picks the answers of one of the two models


@dataclass(frozen=True)
class PromptAccuracy:
    """A model's accuracy for one kind of prompt. Intervals are 95 % bootstrap intervals over pictures.

    Attributes:
        prompt: the kind: boxes or innermost points of the annotated objects, names of their categories, or boxes of a detector.
        masks: number of masks that the model returned.
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


class AccuracySums:
    """What a summary needs of a model's answers to one kind of prompt: 80 bytes of each picture.

    Args:
        prompt: the kind of prompt.
    """

    def __init__(self, prompt: PromptKind) -> None:
        self._prompt = prompt
        self._masks = 0
        self._sums = array("d")  # (pictures, 2 × columns): of each column, the number of values and their sum

    def add(self, image: ImageAccuracy, answers: Sequence[Answer]) -> None:
        """Add the model's answers about a picture."""
        asked = _of(answers, self._prompt)
        self._masks += sum(map(_is_mask, asked))
        sizes = [(found.iou, _area(image, found)) for found in asked if found.iou is not None]
        columns = [[iou for iou, area in sizes if low <= area < high] for low, high in _SIZES]
        columns.append([found.oracle for found in asked if found.oracle is not None])
        for column in columns:
            self._sums.extend((len(column), math.fsum(column)))

    def accuracy(self, precision: Precision | None, *, seed: int) -> PromptAccuracy:
        """Return the accuracy over all pictures.

        Args:
            precision: AP of the masks; None without categories.
            seed: seed of the bootstrap.
        """

        def mean(column: int) -> Estimate | None:
            count, total = self._column(column)
            if not count.any():
                return None
            counts, totals = resampled_sums(np.stack([count, total])[:, count > 0], seed=seed)
            return estimate(ratio(totals, counts))

        miou, small, medium, large, oracle = map(mean, range(len(_SIZES) + 1))
        return PromptAccuracy(self._prompt, self._masks, miou, small, medium, large, oracle, precision)

    def drop(self, original: AccuracySums, ap: Estimate | None, *, seed: int) -> Drop | None:
        """Return how much accuracy the model loses against the original; None if the original has none to lose.

        Args:
            original: the original's answers to the same prompts.
            ap: the drop of AP; None without categories.
            seed: seed of the bootstrap.
        """
        miou = self._miou_drop(original, seed)
        return None if miou is None and ap is None else Drop(self._prompt, miou, ap)

    def _miou_drop(self, original: AccuracySums, seed: int) -> Estimate | None:
        (count, found), (_, expected) = self._column(0), original._column(0)
        if not count.any():
            return None
        found, expected = resampled_sums(np.stack([found, expected])[:, count > 0], seed=seed)
        drop = estimate(1 - ratio(found, expected))
        return None if math.isnan(drop.value) else drop

    def _column(self, column: int) -> NDArray[np.float64]:
        """Return the numbers of values in a column and their sums, (2, pictures)."""
        columns = np.frombuffer(self._sums).reshape(-1, 2 * len(_SIZES) + 2)
        return columns[:, 2 * column : 2 * column + 2].T


def precision_of(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations
) -> Precision | None:
    """Return the average precision of a model's masks; None without categories.

    Args:
        images: all pictures, with their masks.
        answers: picks the model's answers from the result for a picture.
        prompt: the kind of prompt.
        annotations: the annotations, for their categories.
    """
    if not annotations.categories:
        return None
    return average_precision(
        _scopes(images),
        annotations.categories,
        _truths(images),
        _masks(images, answers, prompt),
        lvis=annotations.format == "lvis",
    )


def precision_drop(
    images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind, annotations: Annotations, *, seed: int
) -> Estimate | None:
    """Return the drop of AP against the original; None without categories, or if the original's AP is 0.

    Args:
        images, answers, prompt, annotations: see `precision_of`.
        seed: seed of the bootstrap.
    """
    if not annotations.categories:
        return None
    weights = np.array([often.astype(np.int32) for often in drawings(len(images), seed=seed)])
    scopes, truths = _scopes(images), _truths(images)
    model, original = (
        resampled_ap(matched(scopes, truths, _masks(images, of, prompt), lvis=annotations.format == "lvis"), weights)
        for of in (answers, lambda image: image.against)
    )
    drop = estimate(1 - ratio(model, original))
    return None if math.isnan(drop.value) else drop


def _of(answers: Sequence[Answer], prompt: PromptKind) -> list[Answer]:
    return [answer for answer in answers if answer.kind == prompt]


def _area(image: ImageAccuracy, answer: Answer) -> float:
    assert answer.about is not None  # it has an IoU with that object
    return image.objects[answer.about].area


def _is_mask(answer: Answer) -> bool:
    """Return whether an answer is a mask of the model, and not about an object that a text did not find."""
    return answer.kind != "text" or answer.mask is not None


def _scopes(images: Sequence[ImageAccuracy]) -> list[Scope]:
    return [Scope(image.image, image.height, image.width, image.absent, image.incomplete) for image in images]


def _truths(images: Sequence[ImageAccuracy]) -> list[TrueMask]:
    return [
        TrueMask(image.image, entry.category, entry.mask, entry.area, entry.crowd)
        for image in images
        for entry in image.objects
        if entry.category is not None and entry.mask is not None
    ]


def _masks(images: Sequence[ImageAccuracy], answers: Answers, prompt: PromptKind) -> list[FoundMask]:
    return [_found(image, answer) for image in images for answer in _of(answers(image), prompt) if _is_mask(answer)]


def _found(image: ImageAccuracy, answer: Answer) -> FoundMask:
    assert answer.mask is not None  # kept whenever there are categories
    if answer.about is None:
        return FoundMask(image.image, answer.category, answer.mask, answer.score)
    if answer.kind != "detections":
        return FoundMask(image.image, image.objects[answer.about].category, answer.mask, answer.score)
    detection = image.detections[answer.about]
    score = answer.score if detection.score is None else detection.score
    return FoundMask(image.image, detection.category, answer.mask, score)
