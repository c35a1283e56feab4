"""Accuracy: how well a model's masks match annotated objects.

The model is prompted with the box and with the innermost point of every object, and on request with the boxes of a
detector, for which only AP can be computed. The single mask counts, or the mask of the multimask output that the model
itself scores best; the mask of that output that matches the object best is reported separately, as "oracle". Crowds get
no prompts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bhk.base.errors import option
from bhk.evaluation.annotations.dataset import AnnotatedImage
from bhk.evaluation.annotations.segmentation import Rle, encode, read_segmentation
from bhk.evaluation.detections import Detection
from bhk.evaluation.faults import FaultCount, FaultKind, FaultLog
from bhk.evaluation.fidelity import NotFiniteError
from bhk.evaluation.models import Subject
from bhk.evaluation.settings import MaskOutput, ObjectPrompt
from bhk.pictures.image import Rgb
from bhk.pictures.masks import bounding_box, innermost_point, mask_iou
from bhk.pictures.prompts import Box, Prompt, inside

PromptKind = Literal["box", "point", "detections"]


@dataclass(frozen=True)
class TrueObject:
    """An annotated object with its mask.

    Attributes:
        category: None if the format has no categories.
        area: annotated area in pixels; the mask's area if there is none.
        crowd: whether the region holds many objects.
        box: (x0, y0, x1, y1), cut to the picture.
        mask: the mask; None in results, unless AP needs it.
    """

    category: int | None
    area: float
    crowd: bool
    box: Box
    mask: Rle | None


@dataclass(frozen=True)
class Question:
    """A prompt, and the object it is about.

    Attributes:
        kind: what the prompt was made from.
        about: index of the object or of the detection.
        prompt: the prompt.
        truth: the object's mask; None for a detection.
    """

    kind: PromptKind
    about: int
    prompt: Prompt
    truth: Rle | None


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question.

    Attributes:
        kind, about: see `Question`.
        score: predicted IoU of the mask that counts.
        iou: IoU of that mask with the object; None for a detection.
        oracle: highest IoU of any mask of the multimask output; None for a detection or a single mask.
        mask: the mask that counts; None unless AP needs it.
    """

    kind: PromptKind
    about: int
    score: float
    iou: float | None
    oracle: float | None
    mask: Rle | None


@dataclass(frozen=True)
class ImageAccuracy:
    """The result for one picture.

    Attributes:
        image: id of the picture.
        height, width: size in pixels.
        objects: the annotated objects; `Answer.about` is an index into them.
        detections: the detector's boxes that overlap the picture; `Answer.about` is an index into them.
        models: the answers of each model.
        against: the original's answers to the same questions; empty without an original.
        absent, incomplete: see `AnnotatedImage`.
    """

    image: int
    height: int
    width: int
    objects: tuple[TrueObject, ...]
    detections: tuple[Detection, ...]
    models: tuple[tuple[Answer, ...], ...]
    against: tuple[Answer, ...] = ()
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardAccuracy:
    """The results for a few pictures, and the faults found in them."""

    images: tuple[ImageAccuracy, ...]
    faults: tuple[FaultCount, ...]


def true_objects(image: AnnotatedImage, log: FaultLog) -> tuple[TrueObject, ...]:
    """Return the objects of a picture whose masks can be read; count the others and the crowds in `log`."""
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
    """Return the detections, cut to the picture; count those outside it in `log`."""
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
    """Return the questions about a picture: one per object and kind of prompt, and one per detection."""
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
    """Return a model's answers about a picture.

    Args:
        subject: the model.
        pixels: uint8 (height, width, 3).
        questions: the questions.
        output: which mask counts: the single mask, or the best-scored mask of the multimask output.
        keep_masks: keep the masks in the answers, as AP needs them.

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
            "a model predicted an IoU that is not finite; "
            f"use {option('dtype', 'float32')} or bfloat16, which have a wider range, and check the file with `bhk verify`"
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
    assert entry.mask is not None
    x, y = innermost_point(entry.mask.decode())
    return Prompt(points=((float(x), float(y)),))


def _box(mask: Rle) -> Box:
    x0, y0, x1, y1 = bounding_box(mask.decode())
    return float(x0), float(y0), float(x1), float(y1)
