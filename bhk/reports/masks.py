"""Masks of the original and of the compressed model, side by side, for the same prompts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhk.base.progress import Progress
from bhk.evaluation.models import ModelSource, Subject
from bhk.pictures.image import Rgb
from bhk.pictures.masks import mask_iou
from bhk.pictures.overlay import draw
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt

LONG_SIDE = 640
POINTS = 25  # prompts for the original
MASKS = 5  # shown per picture, at most
ALIKE = 0.7  # IoU from which two masks count as the same object
MOST_AREA = 0.6  # share of the picture; larger masks are background
QUALITY = 85


@dataclass(frozen=True)
class ComparedMask:
    """The masks of both models for one prompt.

    Attributes:
        prompt: the prompt as text.
        iou: IoU of the two masks.
        score, other_score: IoU that the original and the compressed model predict for their masks.
    """

    prompt: str
    iou: float
    score: float
    other_score: float


@dataclass(frozen=True, eq=False)
class PictureMasks:
    """A picture with the masks of both models.

    Attributes:
        name: name of the picture.
        width, height: size in pixels, at which it was drawn and given to the models.
        original, compressed: JPEG files of the picture with masks and prompts.
        difference: PNG file that is opaque where the masks of the two models differ.
        masks: one per prompt, in the order of their colours.
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
    """A model's masks, bool (n, height, width), and scores for prompts; `outputs` holds the index of each mask."""

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
    """Compare the masks of both models for the same prompts.

    The original is prompted with a coarse grid of points. The points whose masks it scores best are kept, one per object, and
    given to the compressed model. Each point has several masks; the original's best one is compared with the other model's
    mask of the same index. The models are loaded one after the other.

    Args:
        original, compressed: the two models.
        pictures: names and pixels, uint8 (height, width, 3); larger pictures are scaled down to LONG_SIDE.
        seed: seed of the points.
        progress: called with ("Masks", pictures done, all pictures), where each picture counts once per model.

    Raises:
        BhkError: see `bhk.load`.
        PredictionError: bhk does not know how to prompt the model.
    """
    scaled = [(name, _scaled(pixels)) for name, pixels in pictures]
    total = 2 * len(scaled)
    asked: list[_Answers] = []
    subject = Subject(original.load())
    subject.check(texts=False)
    for number, (_, pixels) in enumerate(scaled):
        asked.append(_best(subject, pixels, (seed, number)))
        if progress:
            progress("Masks", number + 1, total)
    subject = Subject(compressed.load())
    found = []
    for number, ((name, pixels), answers) in enumerate(zip(scaled, asked, strict=True)):
        found.append(_compared(name, pixels, answers, _same(subject, pixels, answers)))
        if progress:
            progress("Masks", len(scaled) + number + 1, total)
    return tuple(found)


def _scaled(pixels: Rgb) -> Rgb:
    height, width, _ = pixels.shape
    scale = LONG_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _best(subject: Subject, pixels: Rgb, seed: tuple[int, int]) -> _Answers:
    """Return the original's answers that are worth showing, best first; at least one."""
    subject.look(pixels)
    height, width, _ = pixels.shape
    prompts = grid_prompts(width, height, seed, points=POINTS, boxes=0)
    if not subject.takes(prompts[0]):
        prompts = grid_prompts(width, height, seed, points=0, boxes=POINTS)
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
    """Return another model's masks for the same prompts, with the same indices."""
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
    """Return a PNG file that is magenta where `differing`, bool (height, width), and transparent elsewhere."""
    image = Image.fromarray(differing.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 200])
    file = io.BytesIO()
    image.save(file, format="PNG", transparency=0, optimize=True)
    return file.getvalue()
