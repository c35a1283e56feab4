"""Accuracy: how well a model's masks match annotated objects.

The model is prompted with the box and with the innermost point of every object, and on request with the boxes of a
detector, for which only AP can be computed. The single mask counts, or the mask of the multimask output that the model
itself scores best; the mask of that output that matches the object best is reported separately, as "oracle". Crowds get
no prompts.

A model of texts is asked for each category that a picture has, by its name. Each object belongs to the mask that is most like
it (see `most_alike`); without one, it counts as an IoU of 0. Masks without an object count in AP, as wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bhk.base.errors import option
from bhk.evaluation.annotations.dataset import AnnotatedImage
from bhk.evaluation.annotations.segmentation import Rle, encode, read_segmentation
from bhk.evaluation.detections import Detection
from bhk.evaluation.faults import FaultCount, FaultKind, FaultLog
from bhk.evaluation.fidelity import NotFiniteError
from bhk.evaluation.models import Subject
from bhk.evaluation.settings import MaskOutput, ObjectPrompt
from bhk.pictures.image import Rgb
from bhk.pictures.masks import bounding_box, innermost_point, mask_iou, most_alike
from bhk.pictures.prompts import Box, Prompt, inside

PromptKind = Literal["box", "point", "text", "detections"]


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
class Search:
    """The name of a category, and the objects of it in a picture.

    Attributes:
        category: id of the category.
        prompt: its name.
        objects: indexes of the objects.
        truths: their masks.
    """

    category: int
    prompt: Prompt
    objects: tuple[int, ...]
    truths: tuple[Rle, ...]


@dataclass(frozen=True)
class Answer:
    """A model's answer to a question.

    Attributes:
        kind: see `Question`.
        about: index of the object or of the detection; None for a mask that a text found, but that belongs to no object.
        score: predicted IoU of the mask that counts, or how sure the model is of what a text found.
        iou: IoU of that mask with the object; None for a detection, or without an object.
        oracle: highest IoU of any mask of the multimask output; None for a detection, a single mask or a text.
        mask: the mask that counts; None unless AP needs it, and for an object that a text did not find.
        category: of a mask that belongs to no object; else None.
    """

    kind: PromptKind
    about: int | None
    score: float
    iou: float | None
    oracle: float | None
    mask: Rle | None
    category: int | None = None


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
    """Return the questions about a picture: one per object and kind of prompt but "text", and one per detection."""
    asked = []
    for index, entry in enumerate(objects):
        for kind in prompts if not entry.crowd else ():
            if kind != "text":
                asked.append(Question(kind, index, _prompt(entry, kind), entry.mask))
    for index, detection in enumerate(detections):
        asked.append(Question("detections", index, Prompt(box=detection.box), None))
    return tuple(asked)


def searches_in(objects: Sequence[TrueObject], texts: Mapping[int, str]) -> tuple[Search, ...]:
    """Return what to find in a picture: the categories of its objects, by their texts."""
    of_category: dict[int, dict[int, Rle]] = {}
    for index, entry in enumerate(objects):
        if entry.category is not None and entry.category in texts and entry.mask is not None and not entry.crowd:
            of_category.setdefault(entry.category, {})[index] = entry.mask
    return tuple(
        Search(category, Prompt(text=texts[category]), tuple(masks), tuple(masks.values()))
        for category, masks in of_category.items()
    )


def image_accuracy(
    subject: Subject, pixels: Rgb, questions: Sequence[Question | Search], *, output: MaskOutput, keep_masks: bool
) -> tuple[Answer, ...]:
    """Return a model's answers about a picture.

    Args:
        subject: the model.
        pixels: uint8 (height, width, 3).
        questions: the questions, and what to find.
        output: which mask counts: the single mask, or the best-scored mask of the multimask output.
        keep_masks: keep the masks in the answers, as AP needs them.

    Raises:
        NotFiniteError: a predicted IoU is not finite.
    """
    if not questions:
        return ()
    subject.look(pixels)
    answers: list[Answer] = []
    for question in questions:
        masks, scores = subject.answer(question.prompt, multimask=output == "multi")
        if not np.isfinite(scores).all():
            raise NotFiniteError(
                "a model predicted an IoU that is not finite; "
                f"use {option('dtype', 'float32')} or bfloat16, which have a wider range, and check the file with `bhk verify`"
            )
        if isinstance(question, Search):
            answers += _found(question, masks, scores)
        else:
            answers.append(_answer(question, masks, scores, output, keep_masks))
    return tuple(answers)


def _found(search: Search, masks: NDArray[np.bool_], scores: NDArray[np.float32]) -> Iterator[Answer]:
    """Yield an answer for each object, in their order, and then one for each mask that belongs to none."""
    pairs = most_alike([truth.decode() for truth in search.truths], masks)
    mask_of = {place: (other, iou) for place, other, iou in pairs}
    for place, index in enumerate(search.objects):
        if place in mask_of:
            other, iou = mask_of[place]
            yield Answer("text", index, float(scores[other]), iou, None, encode(masks[other]))
        else:
            yield Answer("text", index, 0.0, 0.0, None, None)
    used = {other for other, _ in mask_of.values()}
    for other in sorted(set(range(len(masks))) - used):
        yield Answer("text", None, float(scores[other]), None, None, encode(masks[other]), search.category)


def _answer(
    question: Question, masks: NDArray[np.bool_], scores: NDArray[np.float32], output: MaskOutput, keep_masks: bool
) -> Answer:
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
