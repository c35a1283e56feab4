"""Prompts for clips: of several objects, in several frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bhk.base.errors import option
from bhk.pictures.prompts import Prompt, PromptError, fit_inside, make_prompts


@dataclass(frozen=True)
class ClipPrompt(Prompt):
    """A prompt for one object of a clip in one frame, or a text for all objects that it names in all frames.

    >>> bhk.ClipPrompt(points=((500, 375),), frame=12)
    ClipPrompt(points=((500, 375),), not_points=(), box=None, text=None, frame=12, object=0)

    Attributes:
        points: (x, y) of points on the object, in pixels of the upright frame.
        not_points: (x, y) of points outside it.
        box: (x0, y0, x1, y1) around it; None for points only.
        text: what to find, such as "a cup"; None for one object.
        frame: index of the frame, from 0; for a text, it does not matter.
        object: number of the object, from 0. An object may have prompts in several frames.
    """

    frame: int = 0
    object: int = 0


@dataclass(frozen=True)
class Mark:
    """A point or a box in a clip.

    Attributes:
        values: its two or four numbers.
        frame: index of its frame.
        object: number of the object that it is about; None if that was left open.
    """

    values: Sequence[float]
    frame: int
    object: int | None = None


def clip_prompts(
    points: Sequence[Mark] = (), not_points: Sequence[Mark] = (), boxes: Sequence[Mark] = (), *, separate: bool = False
) -> tuple[ClipPrompt, ...]:
    """Return the prompts that points and boxes are, one for each object in each frame where it has some.

    Without numbers of objects, all points and boxes are about one object, as in a picture; boxes without points, and all
    `separate` ones, about one each.

    Raises:
        PromptError: there are none, only some have a number, or those of an object in a frame contradict each other.
    """
    marks = [*points, *not_points, *boxes]
    numbered = [mark for mark in marks if mark.object is not None]
    if numbered and (separate or len(numbered) < len(marks)):
        raise PromptError("some points or boxes have the number of an object and some have none; give it to all")
    if marks and not numbered and (separate or not (points or not_points)):
        if separate and not_points:
            raise PromptError("points outside an object do not go with separate objects; leave one of them out")
        if not separate and len({box.frame for box in boxes}) > 1:
            raise PromptError(
                "boxes in several frames: say which object each is around, as 0:X0,Y0,X1,Y1@FRAME, or give "
                f"{option('separate', True)}"
            )
        points = [replace(point, object=number) for number, point in enumerate(points)]
        boxes = [replace(box, object=number) for number, box in enumerate(boxes, start=len(points))]
    found = []
    for key in sorted({_key(mark) for mark in (*points, *not_points, *boxes)}, key=lambda key: key[::-1]):
        own = ([mark.values for mark in kind if _key(mark) == key] for kind in (points, not_points, boxes))
        found.append(ClipPrompt(**vars(_only(*own)), object=key[0], frame=key[1]))
    return checked_prompts(found)


def checked_prompts(prompts: Iterable[ClipPrompt]) -> tuple[ClipPrompt, ...]:
    """Return prompts for a clip in the order of their frames and objects, with all values as numbers.

    Raises:
        PromptError: there are none, texts stand beside others, an object has two prompts in a frame or none at all, or a prompt
            alone is wrong.
    """
    found = []
    for prompt in prompts:
        boxes = () if prompt.box is None else (prompt.box,)
        texts = () if prompt.text is None else (prompt.text,)
        found.append(replace(prompt, **vars(make_prompts(prompt.points, prompt.not_points, boxes, texts)[0])))
    if not found:
        raise PromptError("no prompts; give points, boxes or a text")
    named = [prompt for prompt in found if prompt.text is not None]
    if named and len(named) < len(found):
        raise PromptError("a text finds all objects that it names, points and boxes one object; choose one")
    if named:
        return tuple(found)
    places = sorted((prompt.frame, prompt.object) for prompt in found)
    numbers = sorted({number for _, number in places})
    if numbers != list(range(len(numbers))):
        raise PromptError(f"objects {', '.join(map(str, numbers))}: expected numbers from 0 on, without a gap")
    if twice := [place for place, after in itertools.pairwise(places) if place == after]:
        raise PromptError(f"object {twice[0][1]} has two prompts in frame {twice[0][0]}; put them into one")
    return tuple(sorted(found, key=lambda prompt: (prompt.frame, prompt.object)))


def fit_frames(
    prompts: Iterable[ClipPrompt], width: int, height: int
) -> tuple[tuple[ClipPrompt, ...], tuple[str, ...]]:
    """Return prompts for frames of `width` x `height` pixels, and what was changed; see `fit_inside`."""
    fitted, notes = list[ClipPrompt](), list[str]()
    for prompt in prompts:
        (found,), said = fit_inside((prompt,), width, height, "frame")
        fitted.append(replace(prompt, box=found.box))
        notes += said
    return tuple(fitted), tuple(notes)


def _key(mark: Mark) -> tuple[int, int]:
    return mark.object or 0, mark.frame


def _only(
    points: Sequence[Sequence[float]], not_points: Sequence[Sequence[float]], boxes: Sequence[Sequence[float]]
) -> Prompt:
    """Return the prompt of one object in one frame."""
    found = make_prompts(points, not_points, boxes)
    if len(found) > 1:
        raise PromptError(f"{len(boxes)} boxes around one object in one frame; give one")
    return found[0]
