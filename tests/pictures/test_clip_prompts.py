from __future__ import annotations

from typing import Any

import pytest

from bhk.pictures.clip_prompts import ClipPrompt, Mark, checked_prompts, clip_prompts, fit_frames
from bhk.pictures.prompts import PromptError

_BOX = (10.0, 10.0, 60.0, 70.0)


def test_points_and_boxes_without_numbers_are_one_object_or_one_each() -> None:
    points, boxes = [Mark((1, 2), 0), Mark((3, 4), 5)], [Mark(_BOX, 0), Mark(_BOX, 5)]
    assert clip_prompts(points, [Mark((9, 9), 5)], boxes[:1]) == (
        ClipPrompt(((1.0, 2.0),), (), _BOX),
        ClipPrompt(((3.0, 4.0),), ((9.0, 9.0),), frame=5),
    )
    with pytest.raises(PromptError, match="boxes in several frames: say which object"):
        clip_prompts(boxes=boxes)
    assert clip_prompts(boxes=boxes, separate=True) == (ClipPrompt(box=_BOX), ClipPrompt(box=_BOX, frame=5, object=1))
    assert [prompt.object for prompt in clip_prompts(points, (), boxes, separate=True)] == [0, 2, 1, 3]


def test_numbers_say_which_object_a_point_is_on() -> None:
    found = clip_prompts([Mark((1, 2), 4, 1), Mark((5, 6), 4, 1)], [], [Mark(_BOX, 0, 0), Mark(_BOX, 4, 0)])
    assert found == (
        ClipPrompt(box=_BOX),
        ClipPrompt(box=_BOX, frame=4),
        ClipPrompt(((1.0, 2.0), (5.0, 6.0)), frame=4, object=1),
    )


def test_prompts_are_sorted_and_their_values_numbers() -> None:
    given: Any = [ClipPrompt([[1, 2]], frame=3), ClipPrompt(box=[0, 0, 9, 9], object=1)]  # type: ignore[arg-type]
    assert checked_prompts(given) == (
        ClipPrompt(box=(0.0, 0.0, 9.0, 9.0), object=1),
        ClipPrompt(((1.0, 2.0),), frame=3),
    )
    texts = (ClipPrompt(text="a cup"), ClipPrompt(text="a spoon"))
    assert checked_prompts(texts) == texts


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"points": [Mark((1, 2), 0, 0), Mark((1, 2), 0)]}, "some have none; give it to all"),
        ({"points": [Mark((1, 2), 0, 0)], "separate": True}, "some have none; give it to all"),
        (
            {"points": [Mark((1, 2), 0)], "not_points": [Mark((1, 2), 0)], "separate": True},
            "do not go with separate objects",
        ),
        ({"points": [Mark((1, 2), 0)], "not_points": [Mark((1, 2), 3)]}, "only points outside the object"),
        ({"points": [Mark((1, 2), 0, 1)]}, "objects 1: expected numbers from 0 on, without a gap"),
        ({"boxes": [Mark(_BOX, 0, 0), Mark(_BOX, 0, 0)]}, "2 boxes around one object in one frame"),
        ({"points": [Mark((1, 2), 0)], "boxes": [Mark(_BOX, 0), Mark(_BOX, 0)]}, "points with 2 boxes"),
        ({}, "no prompts"),
    ],
)
def test_contradictions(marks: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        clip_prompts(**marks)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([ClipPrompt(((1, 2),)), ClipPrompt(box=_BOX)], "object 0 has two prompts in frame 0; put them into one"),
        ([ClipPrompt(text="a cup"), ClipPrompt(box=_BOX)], "a text finds all objects"),
        ([ClipPrompt()], "no prompts"),
    ],
)
def test_contradictions_of_prompts(prompts: list[ClipPrompt], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        checked_prompts(prompts)


def test_boxes_are_cut_at_the_edge_of_the_frame() -> None:
    fitted, notes = fit_frames([ClipPrompt(box=(-5, 0, 50, 40), frame=2, object=0)], 100, 80)
    assert fitted == (ClipPrompt(box=(0.0, 0.0, 50.0, 40.0), frame=2),)
    assert notes == ("box -5,0,50,40 was cut at the edge of the frame, which is 100 x 80 pixels",)
    with pytest.raises(PromptError, match="point 100,2 is outside the frame"):
        fit_frames([ClipPrompt(((100, 2),))], 100, 80)
