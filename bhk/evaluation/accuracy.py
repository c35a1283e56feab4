"""Accuracy: how well the masks of a model match ground truth.

Every object is asked for by its box, and by its innermost point; boxes of a detector can be asked as well, of which only
AP can be told. The mask that counts is the single mask, or of the multimask output the one that the model itself scores
best; of the latter, the best against ground truth is reported apart, as "oracle". Crowds are not asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bhk.evaluation.annotations.dataset import AnnotatedImage
from bhk.evaluation.annotations.segmentation import Rle, encode, read_segmentation
from bhk.evaluation.detections import Detection, inside
from bhk.evaluation.faults import FaultCount, FaultKind, FaultLog
from bhk.evaluation.fidelity import NotFiniteError
from bhk.evaluation.models import Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import bounding_box, innermost_point, mask_iou
from bhk.pictures.prompts import Box, Prompt

ObjectPrompt = Literal["box", "point"]
PromptKind = Literal["box", "point", "detections"]
MaskOutput = Literal["single", "multi"]


@dataclass(frozen=True)
class TrueObject:
    """An annotated object whose mask was read.

    Attributes:
        category: None where the format has none.
        area: in pixels, as annotated, or else of the mask.
        crowd: whether it is a region of many objects.
        box: (x0, y0, x1, y1) in the picture.
        mask: of the object.
    """

    category: int | None
    area: float
    crowd: bool
    box: Box
    mask: Rle


@dataclass(frozen=True)
class Question:
    """What a model is asked about a picture.

    Attributes:
        kind: what the prompt was made from.
        about: index of the object, or of the detection.
        prompt: the prompt.
        truth: the mask of the object; None for a detection.
    """

    kind: PromptKind
    about: int
    prompt: Prompt
    truth: Rle | None


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question.

    Attributes:
        kind, about: see `Question`.
        score: predicted IoU of the mask that counts.
        iou: of that mask with the object; None for a detection.
        oracle: IoU of the best mask of the multimask output; None for a detection and of the single mask.
        mask: the mask that counts; None where nobody needs it.
    """

    kind: PromptKind
    about: int
    score: float
    iou: float | None
    oracle: float | None
    mask: Rle | None


@dataclass(frozen=True)
class ImageAccuracy:
    """Everything about one picture that the figures are made from.

    Attributes:
        image: its id.
        height, width: in pixels.
        objects: the annotated objects, in the order that `Answer.about` counts.
        detections: the detector's boxes that have an inside in the picture, likewise.
        model: answers of the model.
        against: answers of the original to the same questions; none without an original.
        absent, incomplete: see `AnnotatedImage`.
    """

    image: int
    height: int
    width: int
    objects: tuple[TrueObject, ...]
    detections: tuple[Detection, ...]
    model: tuple[Answer, ...]
    against: tuple[Answer, ...] = ()
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardAccuracy:
    """What a worker found in some pictures."""

    images: tuple[ImageAccuracy, ...]
    faults: tuple[FaultCount, ...]


def true_objects(image: AnnotatedImage, log: FaultLog) -> tuple[TrueObject, ...]:
    """Return the objects of a picture whose masks can be read, and count the others, and the crowds."""
    found = []
    for entry in image.objects:
        where = f"{image.name}, annotation {entry.id}"
        mask = read_segmentation(
            entry.segmentation, image.height, image.width, functools.partial(log.add, example=where)
        )
        if mask is None:
            continue
        box = None if entry.box is None else inside(entry.box, image.width, image.height)
        if entry.crowd:
            log.add(FaultKind.CROWD, where)
        elif box is None:
            log.add(FaultKind.UNUSABLE_BOX, where)
        area = float(mask.area) if entry.area is None else entry.area
        found.append(TrueObject(entry.category, area, entry.crowd, box or _box(mask), mask))
    return tuple(found)


def usable_detections(image: AnnotatedImage, detections: Sequence[Detection], log: FaultLog) -> tuple[Detection, ...]:
    """Return detections cut to a picture, and count those that are outside."""
    found = []
    for entry in detections:
        box = inside(entry.box, image.width, image.height)
        if box is None:
            log.add(FaultKind.BOX_WITHOUT_INSIDE, f"{image.name}: x0,y0,x1,y1 {','.join(f'{x:g}' for x in entry.box)}")
        else:
            found.append(Detection(entry.category, box, entry.score))
    return tuple(found)


def questions_about(
    objects: Sequence[TrueObject], detections: Sequence[Detection], prompts: Sequence[ObjectPrompt]
) -> tuple[Question, ...]:
    """Return what to ask about a picture: of each object, by each kind of prompt, and of each detection."""
    asked = []
    for index, entry in enumerate(objects):
        for kind in prompts if not entry.crowd else ():
            asked.append(Question(kind, index, _prompt(entry, kind), entry.mask))
    for index, detection in enumerate(detections):
        asked.append(Question("detections", index, Prompt(box=detection.box), None))
    return tuple(asked)


def image_accuracy(
    subject: Subject, pixels: Rgb, questions: Sequence[Question], *, output: MaskOutput, keep_masks: bool
) -> tuple[Answer, ...]:
    """Ask a model about a picture.

    Args:
        subject: the model.
        pixels: uint8 (height, width, 3).
        questions: what to ask.
        output: whose mask counts: the single mask, or the best scored of the multimask output.
        keep_masks: whether answers hold their masks, which AP needs.

    Raises:
        NotFiniteError: a predicted IoU is not finite.
    """
    if not questions:
        return ()
    subject.look(pixels)
    return tuple(_answer(subject, question, output, keep_masks) for question in questions)


def _answer(subject: Subject, question: Question, output: MaskOutput, keep_masks: bool) -> Answer:
    masks, scores = subject.answer(question.prompt, multimask=output == "multi")
    if not np.isfinite(scores).all():
        raise NotFiniteError(
            "a model predicted an IoU that is not finite; use dtype float32 or bfloat16, whose range is wider, "
            "and check the file with bhk verify"
        )
    best = int(scores.argmax())
    truth = None if question.truth is None else question.truth.decode()
    ious = None if truth is None else [float(mask_iou(mask, truth)) for mask in masks]
    return Answer(
        kind=question.kind,
        about=question.about,
        score=float(scores[best]),
        iou=None if ious is None else ious[best],
        oracle=None if ious is None or output == "single" else max(ious),
        mask=encode(masks[best]) if keep_masks else None,
    )


def _prompt(entry: TrueObject, kind: ObjectPrompt) -> Prompt:
    if kind == "box":
        return Prompt(box=entry.box)
    x, y = innermost_point(entry.mask.decode())
    return Prompt(points=((float(x), float(y)),))


def _box(mask: Rle) -> Box:
    x0, y0, x1, y1 = bounding_box(mask.decode())
    return float(x0), float(y0), float(x1), float(y1)
