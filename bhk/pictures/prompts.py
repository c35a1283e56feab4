"""Prompts: points, boxes and texts that tell a model what to find; points and boxes in pixels of the upright picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bhk.base.errors import BhkError, option

Point = tuple[float, float]
Box = tuple[float, float, float, float]


class PromptError(BhkError):
    """A prompt lies outside the picture, is empty, or contradicts another one."""


@dataclass(frozen=True)
class Prompt:
    """A prompt for one object, or a text for all objects that it names.

    Attributes:
        points: (x, y) of points on the object.
        not_points: (x, y) of points outside it.
        box: (x0, y0, x1, y1) around it; None for points only.
        text: what to find, such as "a cup"; None for one object.
    """

    points: tuple[Point, ...] = ()
    not_points: tuple[Point, ...] = ()
    box: Box | None = None
    text: str | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether the prompt is a single point, which may mean a part of an object or all of it."""
        return self.box is None and len(self.points) + len(self.not_points) == 1


def all_of(texts: str | Iterable[str]) -> tuple[str, ...]:
    """Return all texts; a string is one, and not its letters."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def make_prompts(
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
    texts: str | Iterable[str] = (),
    *,
    separate: bool = False,
) -> tuple[Prompt, ...]:
    """Return one prompt for all points and the box, if there is one; without points, one prompt for each box or text.

    With `separate`, there is one prompt for each point and each box.

    Raises:
        PromptError: there are no prompts, only points outside the object, points with several boxes, texts with points or
            boxes, empty texts, or values that are not numbers; or points outside, if each prompt is separate.
    """
    on, beside = tuple(map(_point, points)), tuple(map(_point, not_points))
    around, named = tuple(map(_box, boxes)), tuple(" ".join(text.split()) for text in all_of(texts))
    if named:
        if on or beside or around:
            raise PromptError("a text finds all objects that it names, points and boxes one object; choose one")
        if not all(named):
            raise PromptError("an empty text names nothing; give a text such as 'a cup'")
        return tuple(Prompt(text=text) for text in named)
    if separate and beside:
        raise PromptError("points outside an object do not go with separate objects; leave one of them out")
    if separate and on:
        return (*(Prompt((point,)) for point in on), *(Prompt(box=box) for box in around))
    if on or beside:
        if len(around) > 1:
            raise PromptError(
                f"points with {len(around)} boxes: it is not clear which box they belong to; give one box, or use "
                f"{option('separate', True)} for one object each"
            )
        if not on and not around:
            raise PromptError("only points outside the object; add a point on it, or a box around it")
        return (Prompt(on, beside, around[0] if around else None),)
    if not around:
        raise PromptError("no prompts; give points, boxes or a text, or ask for everything")
    return tuple(Prompt(box=box) for box in around)


def fit_inside(
    prompts: Iterable[Prompt], width: int, height: int, place: str = "picture"
) -> tuple[tuple[Prompt, ...], tuple[str, ...]]:
    """Return prompts for a picture, or another `place`, of `width` x `height` pixels, and what was changed.

    Boxes are cut at its edge, because those of detectors often reach over it.

    Raises:
        PromptError: a point or most of a box lies outside the picture, or a box is empty.
    """
    within = f"the {place}, which is {width} x {height} pixels"
    fitted: list[Prompt] = []
    notes: list[str] = []
    for prompt in prompts:
        for x, y in prompt.points + prompt.not_points:
            if not (0 <= x < width and 0 <= y < height):
                raise PromptError(f"point {x:g},{y:g} is outside {within}")
        if prompt.box is not None:
            box = _mostly_inside(prompt.box, width, height, within)
            if box != prompt.box:
                notes.append(f"box {_listed(prompt.box)} was cut at the edge of {within}")
            prompt = replace(prompt, box=box)
        fitted.append(prompt)
    return tuple(fitted), tuple(notes)


def inside(box: Box, width: int, height: int) -> Box | None:
    """Return a box cut to a picture of this size; None if nothing is left of it."""
    if not all(map(math.isfinite, box)):
        return None
    x0, y0, x1, y1 = box
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _mostly_inside(box: Box, width: int, height: int, within: str) -> Box:
    if box[0] >= box[2] or box[1] >= box[3]:
        raise PromptError(f"box {_listed(box)} is empty; expected x0 < x1 and y0 < y1 in {within}")
    cut = inside(box, width, height)
    if cut is None or 2 * _area(cut) < _area(box):
        raise PromptError(f"box {_listed(box)} is not inside {within}")
    return cut


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _listed(box: Box) -> str:
    return ",".join(f"{value:g}" for value in box)


def _point(values: Sequence[float]) -> Point:
    x, y = _numbers(values, 2, "point", "x, y")
    return x, y


def _box(values: Sequence[float]) -> Box:
    x0, y0, x1, y1 = _numbers(values, 4, "box", "x0, y0, x1, y1")
    return x0, y0, x1, y1


def _numbers(values: Sequence[float], count: int, what: str, form: str) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise PromptError(f"{what} {values!r} is not {form} in pixels") from None
    if len(numbers) != count:
        raise PromptError(f"{what} {values!r} has {len(numbers)} numbers; expected {form} in pixels")
    return numbers
