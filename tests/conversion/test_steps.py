from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tasks.checkpoints import draw

from bhk.calibration.sensitivity import Sensitivity
from bhk.codec.fit import sample_tensor
from bhk.conversion.quality import Quality
from bhk.conversion.selection import PlannedTensor, select
from bhk.conversion.steps import DELICATE_FLOOR_DB, MARGIN_DB, StepsByLevel, share_by_sensitivity


def _steps(
    tensors: dict[str, torch.Tensor], aliases: dict[str, tuple[str, ...]] | None = None, level_db: float = 28.0
) -> dict[str, Any]:
    finer_db = {"delicate.weight": 12.0}
    selected = select(tensors, aliases or {}, Quality(), lambda name: finer_db.get(name, 0.0))
    return {planned.name: planned.step for planned in StepsByLevel.of(selected, threads=1).at(level_db)}


def test_a_tensor_that_has_a_step_keeps_it() -> None:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64)})
    first, second = select(tensors, {}, Quality(), lambda name: 0.0)
    steps = StepsByLevel.of([replace(first, step=0.125), second], threads=1)
    assert [planned.step == 0.125 for planned in steps.at(28.0)] == [True, False]


def test_one_step_serves_tensors_of_one_scale_and_few_fall_below() -> None:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64)})
    tensors["faint.weight"] = tensors["a.weight"] / 6
    tensors["loud.weight"] = tensors["a.weight"] * 3
    steps = _steps(tensors)
    assert steps["a.weight"] == steps["b.weight"] == steps["loud.weight"]
    faint = float(tensors["faint.weight"].square().mean().sqrt())
    assert 20 * math.log10(faint * math.sqrt(12) / steps["faint.weight"]) == pytest.approx(16, abs=0.2)


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 0.04, 25.0, 1e5])
@pytest.mark.parametrize("tensors", [1, 5])
def test_tensors_of_another_scale_have_the_level_of_the_model(scale: float, tensors: int) -> None:
    drawn = draw({f"a.{index}.weight": (64, 64) for index in range(3)})
    others = draw({f"b.{index}.weight": (64, 64) for index in range(tensors)}, scale=0.05 * scale, seed=1)
    for name, step in _steps(drawn | others, level_db=22.0).items():
        level_db = 20 * math.log10(float((drawn | others)[name].double().square().mean().sqrt()) * math.sqrt(12) / step)
        assert level_db == pytest.approx(22, abs=0.25), name


@pytest.mark.parametrize("down_db", [11.0, 14.0, 20.0, 27.0, 80.0])
@pytest.mark.parametrize("main", [2, 4])
def test_a_majority_of_faint_tensors_makes_no_others_fine(down_db: float, main: int) -> None:
    """They set the scale of the model, but the others, a part of it that weighs more, have their own."""
    faint = draw({f"side.{index}.weight": (64, 64) for index in range(6)}, scale=0.05 * 10 ** (-down_db / 20), seed=1)
    tensors = draw({f"main.{index}.weight": (64, 64) for index in range(main)}, scale=0.05) | faint
    steps = _steps(tensors)
    for name, step in steps.items():
        level_db = 20 * math.log10(float(tensors[name].square().mean().sqrt()) * math.sqrt(12) / step)
        assert level_db == pytest.approx(28, abs=0.3), name
    assert len({step for name, step in steps.items() if name.startswith("main")}) == 1


def test_a_few_loud_tensors_are_no_part_of_their_own() -> None:
    tensors = draw({f"a.{index}.weight": (64, 64) for index in range(19)})
    tensors["loud.weight"] = tensors["a.0.weight"] * 4  # 5 % of the weights, 12 dB above
    assert len(set(_steps(tensors).values())) == 1


def test_weights_that_differ_from_few_others_have_a_spread_though_the_sample_misses_them() -> None:
    tensor = torch.zeros(1024, 1024)
    tensor[4, 600] = 1e-3  # between the runs of the sample
    tensors = draw({"a.weight": (64, 64)}) | {"spike.weight": tensor}
    assert not sample_tensor(tensor).any()
    assert 0 < _steps(tensors)["spike.weight"] < 1e-6


def test_delicate_tensors_get_a_finer_step_and_vocabularies_a_coarser_one() -> None:
    tensors = draw({"x.weight": (80, 80), "delicate.weight": (80, 80), "embeddings.weight": (4096, 4)})
    tensors |= draw({"small.embeddings.weight": (4095, 4), "tied.embeddings.weight": (4096, 4)})
    steps = _steps(tensors, {"tied.embeddings.weight": ("z.head.weight",)})
    assert steps["x.weight"] / steps["delicate.weight"] == pytest.approx(4, rel=0.01)
    assert steps["embeddings.weight"] / steps["x.weight"] == pytest.approx(3, rel=0.01)
    assert steps["small.embeddings.weight"] == steps["tied.embeddings.weight"] == steps["x.weight"]


def test_a_finer_step_stays_within_what_codebooks_reach() -> None:
    tensors = draw({"x.weight": (80, 80), "delicate.weight": (80, 80)})
    steps = _steps(tensors, level_db=42.0)
    assert steps["delicate.weight"] == steps["x.weight"]


def test_steps_change_the_outputs_alike_for_each_weight() -> None:
    tensors = draw({f"{index}.weight": (40 * (index + 1), 40) for index in range(3)} | {"bias": (4,)})
    before = [PlannedTensor((name,), tensor, "linear", tensor.ndim == 2, 6.0) for name, tensor in tensors.items()]
    sensitivity = {
        "0.weight": Sensitivity(1e-2, 1e-3),
        "1.weight": Sensitivity(1e-4, 1e-5),
        "2.weight": Sensitivity(0, 0),
    }
    after = share_by_sensitivity(before, sensitivity, threads=1)
    assert [planned.measured for planned in after] == [True, True, False, False]
    assert after[0].finer_db - after[1].finer_db == 20
    assert list(after[2:]) == before[2:]

    def change(tensors: Sequence[PlannedTensor], field: str) -> float:
        found = StepsByLevel.of(tensors, threads=1).at(28.0)[:2]
        return sum(planned.numel * getattr(sensitivity[planned.name], field) * planned.step**2 for planned in found)

    less = 10 ** (-MARGIN_DB / 10)
    assert change(after, "fed") == pytest.approx(
        change(before, "plain") * less, rel=0.07
    )  # on a grid of half a decibel


def test_vectors_are_coded_as_finely_as_measured_between_a_floor_and_what_codes_reach() -> None:
    tensors = draw({"x.weight": (80, 80), **dict.fromkeys(("dull", "ready", "keen", "unseen"), (200,))})
    tensors["flat"] = torch.ones(200)
    selected = select(tensors, {}, Quality(), lambda name: 0.0, measured=True)
    plain = 1e-3
    gains = {"x.weight": 0, "dull": -30, "ready": 7, "keen": 20, "flat": 0}
    sensitivity = {name: Sensitivity(*[plain * 10 ** (gain / 10)] * 2) for name, gain in gains.items()}
    shared = share_by_sensitivity(selected, sensitivity, threads=1)
    found = {planned.name: planned for planned in StepsByLevel.of(shared, threads=1).at(28.0)}
    assert {name for name, planned in found.items() if not planned.coded} == {"keen", "unseen", "flat"}

    def level_db(name: str) -> float:
        return 20 * math.log10(float(tensors[name].square().mean().sqrt()) * math.sqrt(12) / (found[name].step or 0))

    assert level_db("dull") == pytest.approx(DELICATE_FLOOR_DB, abs=1)  # of these 200 numbers
    assert level_db("ready") == pytest.approx(28 + MARGIN_DB + 7, abs=1)
    without = select({"x.weight": tensors["x.weight"]}, {}, Quality(), lambda name: 0.0, measured=True)
    alone = StepsByLevel.of(share_by_sensitivity(without, sensitivity, threads=1), threads=1)
    assert alone.at(28.0)[0].step == found["x.weight"].step  # vectors do not move the steps of the others


def test_planning_keeps_no_weights_in_memory() -> None:
    read: list[weakref.ref[torch.Tensor]] = []

    def values(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        read.append(weakref.ref(copy))
        return copy

    tensors = draw({f"{index}.weight": (64, 64) for index in range(3)})
    steps = StepsByLevel.of(select(tensors, {}, Quality(), lambda name: 0.0, read=values), threads=2)
    assert len(steps.sampled) == len(read) == 3  # each is read once
    assert all(copy() is None for copy in read)
