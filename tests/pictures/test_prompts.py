from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bhk.pictures.prompts import Prompt, PromptError, fit_inside, inside, make_prompts


def test_all_points_are_one_prompt() -> None:
    prompts = make_prompts([(1, 2), (3, 4)], [(5, 6)])
    assert prompts == (Prompt(((1.0, 2.0), (3.0, 4.0)), ((5.0, 6.0),), None),)
    assert not prompts[0].ambiguous


def test_each_box_is_one_prompt() -> None:
    prompts = make_prompts(boxes=[(0, 1, 2, 3), (4, 5, 6, 7)])
    assert [prompt.box for prompt in prompts] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert not any(prompt.ambiguous or prompt.points for prompt in prompts)


def test_points_and_a_box_are_one_prompt() -> None:
    assert make_prompts([(1, 2)], boxes=[(0, 0, 9, 9)]) == (Prompt(((1.0, 2.0),), (), (0.0, 0.0, 9.0, 9.0)),)
    assert make_prompts(not_points=[(1, 2)], boxes=[(0, 0, 9, 9)])[0].not_points == ((1.0, 2.0),)


def test_separate_points_and_boxes_are_a_prompt_each() -> None:
    prompts = make_prompts([(1, 2), (3, 4)], boxes=[(0, 0, 9, 9)], separate=True)
    assert prompts == (Prompt(((1.0, 2.0),)), Prompt(((3.0, 4.0),)), Prompt(box=(0.0, 0.0, 9.0, 9.0)))
    assert make_prompts(boxes=[(0, 0, 9, 9)], separate=True) == (Prompt(box=(0.0, 0.0, 9.0, 9.0)),)


def test_a_single_point_is_ambiguous() -> None:
    assert make_prompts([(1, 2)])[0].ambiguous


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, torch.tensor])
def test_numbers_come_in_any_container(make: Any) -> None:
    assert make_prompts(make([[1, 2], [3, 4]]))[0].points == ((1.0, 2.0), (3.0, 4.0))


def test_a_string_is_one_text_and_not_its_letters() -> None:
    assert [prompt.text for prompt in make_prompts(texts="a cup")] == ["a cup"]
    assert [prompt.text for prompt in make_prompts(texts=["a cup", "a spoon"])] == ["a cup", "a spoon"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompts; give points, boxes or a text, or ask for everything"),
        ({"not_points": [(1, 2)]}, "only points outside the object; add a point on it, or a box around it"),
        ({"points": [(1, 2)], "boxes": [(0, 0, 1, 1)] * 2}, "points with 2 boxes"),
        (
            {"points": [(1, 2)], "not_points": [(3, 4)], "separate": True},
            "points outside an object do not go with separate",
        ),
        ({"points": [(1, 2, 3)]}, "point (1, 2, 3) has 3 numbers; expected x, y in pixels"),
        ({"points": [3]}, "point 3 is not x, y in pixels"),
        ({"points": ["ab"]}, "point 'ab' is not x, y in pixels"),
        ({"points": [(1, None)]}, "point (1, None) is not x, y in pixels"),
        ({"boxes": [(1, 2, 3)]}, "box (1, 2, 3) has 3 numbers; expected x0, y0, x1, y1 in pixels"),
    ],
)
def test_impossible_prompts_are_refused(prompts: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError) as error:
        make_prompts(**prompts)
    assert message in str(error.value)


@pytest.mark.parametrize("point", [(0, 0), (639.9, 0), (0, 479), (320.5, 240.25)])
def test_points_inside(point: tuple[float, float]) -> None:
    prompts = (Prompt((point,), (point,)),)
    assert fit_inside(prompts, 640, 480) == (prompts, ())


@pytest.mark.parametrize("box", [(0, 0, 640, 480), (1, 1, 1.5, 2), (639, 479, 640, 480)])
def test_boxes_inside(box: tuple[float, ...]) -> None:
    prompts = make_prompts(boxes=[box])
    assert fit_inside(prompts, 640, 480) == (prompts, ())


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((-0.4, 10, 384.3, 200), (0, 10, 384.3, 200)),
        ((10, 10, 640.5, 480.5), (10, 10, 640, 480)),
        ((-1, -1, 641, 481), (0, 0, 640, 480)),
        ((-99, 0, 100, 5), (0, 0, 100, 5)),
    ],
)
def test_boxes_over_the_edge_are_cut_there_and_that_is_said(box: tuple[float, ...], cut: tuple[float, ...]) -> None:
    (prompt,), (note,) = fit_inside([Prompt(((1, 1),), box=box)], 640, 480)
    assert prompt == Prompt(((1, 1),), box=cut)
    assert note.startswith(f"box {box[0]:g},{box[1]:g},")
    assert note.endswith("was cut at the edge of the picture, which is 640 x 480 pixels")


def test_the_part_of_a_box_inside() -> None:
    assert inside((-5, 2, 30, 6), 20, 10) == (0, 2, 20, 6)
    assert inside((25, 1, 30, 2), 20, 10) is None
    assert inside((0, 0, float("inf"), 1), 5, 5) is None


@pytest.mark.parametrize("point", [(640, 1), (1, 480), (-0.5, 1), (float("nan"), 1), (1, float("inf"))])
@pytest.mark.parametrize("kind", ["points", "not_points"])
def test_points_outside(kind: str, point: tuple[float, float]) -> None:
    prompt = Prompt(**{kind: (point,)})
    with pytest.raises(PromptError, match=r"^point .* is outside the picture, which is 640 x 480 pixels$"):
        fit_inside([prompt], 640, 480)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((600, 0, 681, 480), "box 600,0,681,480 is not inside the picture, which is 640 x 480 pixels"),
        ((-9, 0, 5, 5), "box -9,0,5,5 is not in"),
        ((700, 0, 750, 5), "box 700,0,750,5 is not in"),
        ((0, 0, float("inf"), 5), "box 0,0,inf,5 is not in"),
        ((0, 0, float("nan"), 5), "box 0,0,nan,5 is not in"),
        ((9, 0, 5, 5), "box 9,0,5,5 is empty; expected x0 < x1 and y0 < y1 in the picture, which is 640 x 480"),
        ((0, 5, 5, 5), "box 0,5,5,5 is empty"),
    ],
)
def test_boxes_outside(box: tuple[float, ...], message: str) -> None:
    with pytest.raises(PromptError) as error:
        fit_inside(make_prompts(boxes=[box]), 640, 480)
    assert message in str(error.value)
