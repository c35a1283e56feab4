"""Prompts: what is asked for, in pixels of the upright picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bhk.base.errors import BhkError

Point = tuple[float, float]
Box = tuple[float, float, float, float]


class PromptError(BhkError):
    """A prompt that says nothing about this picture, or prompts that do not go together."""


@dataclass(frozen=True)
class Prompt:
    """One object, asked for.

    Attributes:
        points: (x, y) of points on the object.
        not_points: (x, y) of points beside it.
        box: (x0, y0, x1, y1) around it; None when there are only points.
    """

    points: tuple[Point, ...] = ()
    not_points: tuple[Point, ...] = ()
    box: Box | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether it is a single point, which may mean a part or the whole."""
        return self.box is None and len(self.points) + len(self.not_points) == 1


def make_prompts(
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
) -> tuple[Prompt, ...]:
    """Return one prompt for all points, with the box if there is one; without points, one for each box.

    Raises:
        PromptError: not numbers, points with several boxes, only points beside the object, or nothing at all.
    """
    on, beside = tuple(map(_point, points)), tuple(map(_point, not_points))
    around = tuple(map(_box, boxes))
    if on or beside:
        if len(around) > 1:
            raise PromptError(f"points with {len(around)} boxes: which box they belong to is unknown; give one box")
        if not on and not around:
            raise PromptError("only points beside the object; give a point on it, or a box around it")
        return (Prompt(on, beside, around[0] if around else None),)
    if not around:
        raise PromptError("nothing to look for; give points, boxes, or everything")
    return tuple(Prompt(box=box) for box in around)


def check_inside(prompts: Iterable[Prompt], width: int, height: int) -> None:
    """Check that every prompt lies in a picture of `width` x `height` pixels.

    Raises:
        PromptError: one does not, or a box has no inside.
    """
    within = f"the picture, which is {width} x {height} pixels"
    for prompt in prompts:
        for x, y in prompt.points + prompt.not_points:
            if not (0 <= x < width and 0 <= y < height):
                raise PromptError(f"point {x:g},{y:g} is not in {within}")
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box
            text = f"box {x0:g},{y0:g},{x1:g},{y1:g}"
            if not all(map(math.isfinite, prompt.box)) or x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise PromptError(f"{text} is not in {within}")
            if x0 >= x1 or y0 >= y1:
                raise PromptError(f"{text} has no inside; expected x0 < x1 and y0 < y1 in {within}")


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
