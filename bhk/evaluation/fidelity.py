"""Fidelity: how closely a model's masks match those of its original, on pictures without annotations.

Both models get the same prompts. Of the multimask output, the mask that the original scores best is compared with the
other model's mask of the same index. A box leaves little doubt about the object, so the single mask that `bhk.segment`
returns for it is compared as well, if the models have one. Of the objects that a text names, those are compared whose masks
are most alike; one that only one of the models finds counts as an IoU of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from bhk.base.errors import BhkError, option
from bhk.evaluation.models import Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import boundary_iou, mask_iou, most_alike
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import Masks, Output

Kind = Literal["point", "box", "single", "followed", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class NotFiniteError(BhkError):
    """A model returned NaN or infinity."""


@dataclass(frozen=True)
class ImageFidelity:
    """How closely two models agree on one picture. The lists hold one value per compared pair of masks.

    Attributes:
        kinds: the prompt and the output: the multimask output for a "point" or a "box", the "single" mask of a box, or the mask
            of an object that was "followed" to this frame of a clip, or that a "text" names.
        iou: IoU of the two masks; 1 if both are empty.
        boundary_iou: IoU of the bands along their edges; 1 if both are empty.
        score_change: IoU predicted by the other model minus IoU predicted by the original, for the same mask; of an object that
            was followed or that a text names, how likely they think that it is there (0 if one of them does not find it).
        flips: whether the other model scores a different mask of the output best.
        empty: whether both masks are empty.
        embedding_cosine: cosine similarity of the two image embeddings.
    """

    kinds: list[Kind]
    iou: list[float] = field(repr=False)
    boundary_iou: list[float] = field(repr=False)
    score_change: list[float] = field(repr=False)
    flips: list[bool] = field(repr=False)
    empty: list[bool] = field(repr=False)
    embedding_cosine: float


@dataclass(frozen=True)
class PictureFidelity:
    """The result for one picture of an evaluation.

    Attributes:
        name: path of the picture within its folder.
        fidelity: the model compared with the original; None if the picture was skipped.
        control: the original in bfloat16 compared with itself; None if skipped or not asked for.
        reason: why the picture was skipped; None if it was not.
    """

    name: str
    fidelity: ImageFidelity | None = None
    control: ImageFidelity | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers about a picture: the masks for each prompt, their kinds, and the embedding, float32 (values,)."""

    kinds: list[Kind]
    masks: list[Masks]
    embedding: Tensor


def ask(subject: Subject, pixels: Rgb, prompts: Iterable[Prompt]) -> Answers:
    """Return a model's answers about a picture.

    Args:
        subject: the model.
        pixels: uint8 (height, width, 3).
        prompts: points and boxes in the picture, or texts. A model that takes boxes alone is asked with the boxes, if any.
    """
    subject.look(pixels)
    prompts = tuple(prompts)
    taken = tuple(filter(subject.takes, prompts)) or prompts
    asked = [(kind, prompt) for prompt in taken for kind in _kinds(prompt, subject)]
    masks = [subject.answer(prompt, multimask=kind != "single") for kind, prompt in asked]
    return Answers([kind for kind, _ in asked], masks, subject.embedding)


def compared(original: Answers, other: Answers) -> ImageFidelity:
    """Compare the answers of two models of one architecture to the same prompts.

    Raises:
        NotFiniteError: a score or an embedding is not finite.
    """
    answers = zip(original.kinds, original.masks, other.masks, strict=True)
    found = [pair for kind, *masks in answers for pair in _pairs(kind, *masks)]
    return ImageFidelity(
        kinds=[pair.kind for pair in found],
        iou=[pair.iou for pair in found],
        boundary_iou=[pair.boundary_iou for pair in found],
        score_change=[pair.score_change for pair in found],
        flips=[pair.flip for pair in found],
        empty=[pair.empty for pair in found],
        embedding_cosine=cosine(original.embedding, other.embedding),
    )


def joined(parts: Sequence[ImageFidelity]) -> ImageFidelity:
    """Return the results for one picture, given those for some of its masks, those for others, …."""
    lists = ("kinds", "iou", "boundary_iou", "score_change", "flips", "empty")
    values = {name: [value for part in parts for value in getattr(part, name)] for name in lists}
    return ImageFidelity(**values, embedding_cosine=parts[0].embedding_cosine)


def _kinds(prompt: Prompt, subject: Subject) -> tuple[Kind, ...]:
    if prompt.text is not None:
        return ("text",)
    if prompt.box is None:
        return ("point",)
    kinds: dict[Output, Kind] = {"multimask": "box", "single": "single"}
    return tuple(kind for output, kind in kinds.items() if output in subject.outputs)


@dataclass(frozen=True)
class _Pair:
    kind: Kind
    iou: float
    boundary_iou: float
    score_change: float
    flip: bool
    empty: bool


def _pairs(kind: Kind, original: Masks, other: Masks) -> Iterator[_Pair]:
    """Yield the pairs of masks to compare among two models' answers to one prompt."""
    if not (np.isfinite(original[1]).all() and np.isfinite(other[1]).all()):
        raise _not_finite("a score")
    if kind == "text":
        yield from _objects(original, other)
    else:
        yield _best(kind, original, other)


def _best(kind: Kind, original: Masks, other: Masks) -> _Pair:
    (masks, scores), (other_masks, other_scores) = original, other
    best = int(scores.argmax())
    a, b = masks[best], other_masks[best]
    return _Pair(
        kind,
        iou=mask_iou(a, b),
        boundary_iou=boundary_iou(a, b),
        score_change=float(other_scores[best]) - float(scores[best]),
        flip=int(other_scores.argmax()) != best,
        empty=not (a.any() or b.any()),
    )


def _objects(original: Masks, other: Masks) -> Iterator[_Pair]:
    """Yield a pair for each object that either model finds: the most alike first, then those that only one of them finds."""
    (masks, scores), (other_masks, other_scores) = original, other
    if not (len(masks) or len(other_masks)):
        yield _Pair("text", 1.0, 1.0, 0.0, flip=False, empty=True)
    left, other_left = set(range(len(masks))), set(range(len(other_masks)))
    for i, j, iou in most_alike(masks, other_masks):
        left.remove(i)
        other_left.remove(j)
        change = float(other_scores[j]) - float(scores[i])
        empty = not (masks[i].any() or other_masks[j].any())
        yield _Pair("text", iou, boundary_iou(masks[i], other_masks[j]), change, flip=False, empty=empty)
    for change in (*(-float(scores[i]) for i in sorted(left)), *(float(other_scores[j]) for j in sorted(other_left))):
        yield _Pair("text", 0.0, 0.0, change, flip=False, empty=False)


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine similarity of two vectors: exactly 1 if they are equal, 0 if one is all zeros."""
    if torch.equal(a, b):
        return 1.0
    x, y = a.double(), b.double()
    product, norms = float(x @ y), float(x.norm() * y.norm())
    if not np.isfinite(product + norms):
        raise _not_finite("an image embedding")
    return product / norms if norms else 0.0


def _not_finite(what: str) -> NotFiniteError:
    return NotFiniteError(
        f"a model returned {what} that is not finite; "
        f"use {option('dtype', 'float32')} or bfloat16, which have a wider range, and check the file with `bhk verify`"
    )
