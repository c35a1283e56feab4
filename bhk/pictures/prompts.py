"""Prompts: points, boxes and texts that tell a model what to find; points and boxes in pixels of the upright picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


def make_prompts(
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
    texts: Iterable[str] = (),
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
    around, named = tuple(map(_box, boxes)), tuple(" ".join(text.split()) for text in texts)
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


def check_inside(prompts: Iterable[Prompt], width: int, height: int, place: str = "picture") -> None:
    """Check that every prompt lies in a picture, or another `place`, of `width` x `height` pixels.

    Raises:
        PromptError: a prompt does not, or a box is empty.
    """
    within = f"the {place}, which is {width} x {height} pixels"
    for prompt in prompts:
        for x, y in prompt.points + prompt.not_points:
            if not (0 <= x < width and 0 <= y < height):
                raise PromptError(f"point {x:g},{y:g} is outside {within}")
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box
            text = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
            if not all(map(math.isfinite, prompt.box)) or x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise PromptError(f"{text} is not inside {within}")
            if x0 >= x1 or y0 >= y1:
                raise PromptError(f"{text} is empty; expected x0 < x1 and y0 < y1 in {within}")


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
