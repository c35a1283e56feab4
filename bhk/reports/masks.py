"""Masks of the original beside those of the compressed model, for the same prompts."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhk.evaluation.models import ModelSource, Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import mask_iou
from bhk.pictures.overlay import draw
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt

LONG_SIDE = 640
POINTS = 25  # asked of the original
MASKS = 5  # kept of what it answers
ALIKE = 0.7  # IoU from which two masks count as one object
MOST_AREA = 0.6  # of the picture; larger masks are ground, not objects
QUALITY = 85

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ComparedMask:
    """The masks that both models give to one prompt.

    Attributes:
        prompt: in words.
        iou: of the two masks.
        score, other_score: IoU that the original, and the compressed model, expect of theirs.
    """

    prompt: str
    iou: float
    score: float
    other_score: float


@dataclass(frozen=True, eq=False)
class PictureMasks:
    """A picture with the masks of both models.

    Attributes:
        name: of the picture.
        width, height: as drawn, in pixels; the models saw it at this size.
        original, compressed: JPEG files of the picture with masks and prompts on it.
        difference: PNG file, opaque where the masks of the two models differ.
        masks: one for each prompt, in the order of their colours.
    """

    name: str
    width: int
    height: int
    original: bytes = field(repr=False)
    compressed: bytes = field(repr=False)
    difference: bytes = field(repr=False)
    masks: tuple[ComparedMask, ...]


@dataclass(frozen=True, eq=False)
class _Answers:
    """Masks bool (n, height, width) and scores of a model for prompts; `outputs` says which of its masks each one is."""

    prompts: tuple[Prompt, ...]
    outputs: tuple[int, ...]
    masks: NDArray[np.bool_]
    scores: tuple[float, ...]


def compare_masks(
    original: ModelSource,
    compressed: ModelSource,
    pictures: Sequence[tuple[str, Rgb]],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[PictureMasks, ...]:
    """Ask both models the same about pictures.

    Of a coarse grid of points, those are kept to which the original gives the masks that it expects most of, one for each
    object. A point is asked for several masks; of those, that of the original's best is compared, of both models.
    The models are loaded one after the other.

    Args:
        pictures: name and pixels, uint8 (height, width, 3); larger ones are scaled to LONG_SIDE.
        seed: of the points.
        progress: called with (pictures done, twice their number).

    Raises:
        BhkError: see `bhk.load`.
        PredictionError: bhk does not know how to ask the model.
    """
    scaled = [(name, _scaled(pixels)) for name, pixels in pictures]
    total = 2 * len(scaled)
    asked: list[_Answers] = []
    subject = Subject(original.load())
    for number, (_, pixels) in enumerate(scaled):
        asked.append(_best(subject, pixels, (seed, number)))
        if progress:
            progress(number + 1, total)
    subject = Subject(compressed.load())
    found = []
    for number, ((name, pixels), answers) in enumerate(zip(scaled, asked, strict=True)):
        found.append(_compared(name, pixels, answers, _same(subject, pixels, answers)))
        if progress:
            progress(len(scaled) + number + 1, total)
    return tuple(found)


def _scaled(pixels: Rgb) -> Rgb:
    height, width, _ = pixels.shape
    scale = LONG_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _best(subject: Subject, pixels: Rgb, seed: tuple[int, int]) -> _Answers:
    """Return the answers of the original that are worth showing, best first; at least one."""
    subject.look(pixels)
    height, width, _ = pixels.shape
    prompts = grid_prompts(width, height, seed, points=POINTS, boxes=0)
    masks, scores, outputs = [], [], []
    for prompt in prompts:
        answers, expected = subject.answer(prompt, multimask=True)
        best = int(expected.argmax())
        masks.append(answers[best])
        scores.append(float(expected[best]))
        outputs.append(best)
    ranked = sorted(range(len(prompts)), key=lambda index: -scores[index])
    kept: list[int] = []
    for index in ranked:
        share = float(masks[index].mean())
        if 0 < share < MOST_AREA and all(mask_iou(masks[index], masks[other]) < ALIKE for other in kept):
            kept.append(index)
    kept = kept[:MASKS] or ranked[:1]
    return _Answers(
        tuple(prompts[index] for index in kept),
        tuple(outputs[index] for index in kept),
        np.stack([masks[index] for index in kept]),
        tuple(scores[index] for index in kept),
    )


def _same(subject: Subject, pixels: Rgb, asked: _Answers) -> _Answers:
    """Return what another model answers to the same prompts, by the same of its outputs."""
    subject.look(pixels)
    masks, scores = [], []
    for prompt, output in zip(asked.prompts, asked.outputs, strict=True):
        answers, expected = subject.answer(prompt, multimask=True)
        masks.append(answers[output])
        scores.append(float(expected[output]))
    return _Answers(asked.prompts, asked.outputs, np.stack(masks), tuple(scores))


def _compared(name: str, pixels: Rgb, original: _Answers, compressed: _Answers) -> PictureMasks:
    masks = tuple(
        ComparedMask(_words(prompt), mask_iou(mask, other), score, other_score)
        for prompt, mask, other, score, other_score in zip(
            original.prompts, original.masks, compressed.masks, original.scores, compressed.scores, strict=True
        )
    )
    height, width, _ = pixels.shape
    differing = (original.masks != compressed.masks).any(axis=0)
    return PictureMasks(
        name, width, height, _drawn(pixels, original), _drawn(pixels, compressed), _spots(differing), masks
    )


def _words(prompt: Prompt) -> str:
    return "; ".join(f"point {x:g}, {y:g}" for x, y in prompt.points)


def _drawn(pixels: Rgb, answers: _Answers) -> bytes:
    file = io.BytesIO()
    draw(pixels, answers.masks, answers.prompts).save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()


def _spots(differing: NDArray[np.bool_]) -> bytes:
    """Return a PNG file of two colours, magenta where `differing` (height, width) and clear elsewhere."""
    image = Image.fromarray(differing.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 200])
    file = io.BytesIO()
    image.save(file, format="PNG", transparency=0, optimize=True)
    return file.getvalue()
