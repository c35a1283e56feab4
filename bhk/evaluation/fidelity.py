"""Fidelity: how closely a model answers as the original does, on pictures that nobody annotated.

Every prompt is asked of both models, and masks of the same index are compared: of the multimask output, the one that the
original scores best. A box is clear enough for the single mask, which is what `bhk.segment` gives; where the models have
one, it is compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bhk.base.errors import BhkError
from bhk.evaluation.intervals import Estimate, bootstrap
from bhk.evaluation.models import Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import boundary_iou, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import Masks

Kind = Literal["point", "box", "single"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FAITHFUL = 0.95  # IoU of masks that pass for the same


class NotFiniteError(BhkError):
    """A model answered with values that are no numbers."""


class ImageFidelity(msgspec.Struct, frozen=True):
    """How closely a model answers as the original about one picture: a value for each mask compared.

    Attributes:
        kinds: what was asked: the multimask output of a "point" or of a "box", or the "single" mask of a box.
        iou: of the two masks; 1 where both are empty.
        boundary_iou: of the bands along their edges; 1 where both are empty.
        score_change: predicted IoU by the other model less that by the original, of the same mask.
        flips: whether the other model scores another mask of the output best.
        empty: whether both masks are empty.
        embedding_cosine: cosine similarity of the two image embeddings.
    """

    kinds: list[Kind]
    iou: list[float]
    boundary_iou: list[float]
    score_change: list[float]
    flips: list[bool]
    empty: list[bool]
    embedding_cosine: float


@dataclass(frozen=True)
class Agreement:
    """How closely the masks of a group of prompts agree; intervals hold with 95 % confidence, over pictures.

    Attributes:
        masks: how many were compared.
        iou_mean, iou_median, iou_percentile, iou_min: IoU, 0 ... 1; the percentile is the first.
        faithful: share of the masks with an IoU of at least `FAITHFUL`.
        boundary_iou: mean.
        score_change, score_change_abs: mean of the change of the predicted IoU, and of its absolute value.
        flips: share of the prompts to which the models score different masks best; None for single masks.
        empty: share of the masks that are empty in both models, and count as IoU 1.
    """

    masks: int
    iou_mean: Estimate
    iou_median: Estimate
    iou_percentile: float
    iou_min: float
    faithful: Estimate
    boundary_iou: Estimate
    score_change: Estimate
    score_change_abs: Estimate
    flips: Estimate | None
    empty: float


@dataclass(frozen=True)
class Fidelity:
    """How closely a model answers as the original about all pictures.

    Attributes:
        points, boxes: of the multimask output; None when nothing was asked.
        single: the single masks of boxes; None where the models have none.
        all: of all masks.
        embedding_cosine, embedding_cosine_min: mean and minimum over pictures.
    """

    points: Agreement | None
    boxes: Agreement | None
    single: Agreement | None
    all: Agreement
    embedding_cosine: Estimate
    embedding_cosine_min: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says about a picture: the masks of each prompt, by kind, and the image embedding, float32 (values,)."""

    kinds: list[Kind]
    masks: list[Masks]
    embedding: Tensor


def ask(subject: Subject, pixels: Rgb, prompts: Iterable[Prompt]) -> Answers:
    """Ask a model about a picture.

    Args:
        pixels: uint8 (height, width, 3).
        prompts: points and boxes in the picture.
    """
    subject.look(pixels)
    asked = [(kind, prompt) for prompt in prompts for kind in _kinds(prompt, subject)]
    masks = [subject.answer(prompt, multimask=kind != "single") for kind, prompt in asked]
    return Answers([kind for kind, _ in asked], masks, subject.embedding)


def compared(original: Answers, other: Answers) -> ImageFidelity:
    """Compare what two models of one architecture say about a picture to the same prompts.

    Raises:
        NotFiniteError: a model's scores or embedding are not finite.
    """
    found = [_pair(*pair) for pair in zip(original.masks, other.masks, strict=True)]
    return ImageFidelity(
        kinds=original.kinds,
        iou=[pair.iou for pair in found],
        boundary_iou=[pair.boundary_iou for pair in found],
        score_change=[pair.score_change for pair in found],
        flips=[pair.flip for pair in found],
        empty=[pair.empty for pair in found],
        embedding_cosine=_cosine(original.embedding, other.embedding),
    )


def _kinds(prompt: Prompt, subject: Subject) -> tuple[Kind, ...]:
    if prompt.box is None:
        return ("point",)
    return ("box", "single") if subject.has_single else ("box",)


@dataclass(frozen=True)
class _Pair:
    iou: float
    boundary_iou: float
    score_change: float
    flip: bool
    empty: bool


def _pair(original: Masks, other: Masks) -> _Pair:
    (masks, scores), (other_masks, other_scores) = original, other
    if not (np.isfinite(scores).all() and np.isfinite(other_scores).all()):
        raise _not_finite("a score")
    best = int(scores.argmax())
    a, b = masks[best], other_masks[best]
    return _Pair(
        iou=mask_iou(a, b),
        boundary_iou=boundary_iou(a, b),
        score_change=float(other_scores[best]) - float(scores[best]),
        flip=int(other_scores.argmax()) != best,
        empty=not (a.any() or b.any()),
    )


def _cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine similarity of two vectors; exactly 1 of equal ones, 0 where one is all zeros."""
    if torch.equal(a, b):
        return 1.0
    x, y = a.double(), b.double()
    product, norms = float(x @ y), float(x.norm() * y.norm())
    if not np.isfinite(product + norms):
        raise _not_finite("an image embedding")
    return product / norms if norms else 0.0


def _not_finite(what: str) -> NotFiniteError:
    return NotFiniteError(
        f"a model answered with {what} that is not finite; use dtype float32 or bfloat16, whose range is wider, "
        "and check the file with bhk verify"
    )


def summarise(images: Sequence[ImageFidelity], *, seed: int = 0) -> Fidelity:
    """Return the figures of all pictures together.

    Args:
        images: at least one, with at least one mask.
        seed: of the bootstrap.
    """
    cosines = [np.array([image.embedding_cosine]) for image in images]
    groups = {kind: _agreement(images, (kind,), seed) for kind in KINDS if any(kind in image.kinds for image in images)}
    return Fidelity(
        points=groups.get("point"),
        boxes=groups.get("box"),
        single=groups.get("single"),
        all=_agreement(images, KINDS, seed),
        embedding_cosine=bootstrap(cosines, np.mean, seed=seed),
        embedding_cosine_min=float(np.min(cosines)),
    )


def _agreement(images: Sequence[ImageFidelity], kinds: tuple[Kind, ...], seed: int) -> Agreement:
    """Return the figures of masks of some kinds."""

    def values(field: str, of: tuple[Kind, ...] = kinds) -> list[NDArray[np.float64]]:
        return [np.array(getattr(image, field), float)[np.isin(image.kinds, of)] for image in images]

    def mean(groups: Sequence[NDArray[Any]]) -> Estimate:
        return bootstrap(groups, np.mean, seed=seed)

    iou, change = values("iou"), values("score_change")
    several: tuple[Kind, ...] = tuple(kind for kind in kinds if kind != "single")
    every = np.concatenate(iou)
    return Agreement(
        masks=len(every),
        iou_mean=mean(iou),
        iou_median=bootstrap(iou, np.median, seed=seed),
        iou_percentile=float(np.percentile(every, 1)),
        iou_min=float(every.min()),
        faithful=mean([group >= FAITHFUL for group in iou]),
        boundary_iou=mean(values("boundary_iou")),
        score_change=mean(change),
        score_change_abs=mean([np.abs(group) for group in change]),
        flips=mean(values("flips", several)) if several else None,
        empty=float(np.concatenate(values("empty")).mean()),
    )
