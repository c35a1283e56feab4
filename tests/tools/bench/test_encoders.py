from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bhk.nn import HyperLinear
from tools.bench import encoders
from tools.bench.encoders import TINY, Group, Models, measure
from tools.bench.frame import results as result_files
from tools.bench.frame.timing import Budget
from tools.bench.models.sam_parts import coded_parts, random_points, sides_of

pytest.importorskip("segment_anything")

ENCODER = Group(TINY, dtype=torch.float32)
DECODER = Group(TINY, prompts=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models("cpu")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(result_files, "RESULTS", tmp_path)
    return tmp_path / "encoders_cpu.csv"


def test_sides_hold_equal_values() -> None:
    sides = sides_of(coded_parts(TINY, "cpu"), torch.float32)
    coded = {name: module for name, module in sides["exact"].named_modules() if isinstance(module, HyperLinear)}
    assert len(coded) > 20
    assert not any(isinstance(module, HyperLinear) for module in sides["dense"].modules())
    for name, module in coded.items():
        assert torch.equal(sides["dense"].get_submodule(name).weight, module.weight)
        assert sides["int8"].get_submodule(name).compute == "int8"
    assert all(parameter.any() for parameter in sides["dense"].parameters())
    exact = dict(sides["exact"].named_parameters())
    for name, parameter in sides["dense"].named_parameters():
        assert name not in exact or torch.equal(parameter, exact[name])


@pytest.mark.parametrize("group", [ENCODER, dataclasses.replace(ENCODER, batch=2), DECODER], ids=str)
def test_rows_tell_of_every_side(models: Models, group: Group) -> None:
    rows = measure(group, models)
    assert [row["side"] for row in rows] == ["dense", "exact", "int8"]
    dense, exact, _ = rows
    assert (dense["speed"], dense["linear_share"], dense["error"]) == ("1.000", "1.0000", "0.00e+00")
    assert 0.24 < float(str(exact["linear_share"])) < 0.35
    for row in rows:
        assert row["part"] == ("decoder, 2 prompts" if group.prompts else "encoder")
        assert float(str(row["ms"])) > 0
        assert float(str(row["error"])) < 1e-5  # layers so small fall back to exact products
        assert (row["peak_mib"], row["note"]) == ("", "")


def test_a_graph_is_captured_once_a_side_and_replayed(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[object] = []

    def captured(work: Callable[[], Any], pool: object) -> Callable[[], Any]:
        captures.append(pool)
        result = work()
        return lambda: result

    monkeypatch.setattr(encoders, "captured", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    rows = measure(dataclasses.replace(ENCODER, how="graph"), models)
    assert captures == [(0, 1)] * 3
    assert all(row["ms"] and not row["note"] for row in rows)


def test_a_side_that_fails_leaves_the_others(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = encoders._prepare

    def failing(group: Group, parts: Any, *rest: Any) -> Any:
        if parts is models.sides(TINY, torch.float32)["exact"]:
            raise RuntimeError("\nno kernel\nfor this card\nat all")
        return prepare(group, parts, *rest)

    monkeypatch.setattr(encoders, "_prepare", failing)
    dense, exact, int8 = measure(ENCODER, models)
    assert exact["note"] == "RuntimeError: no kernel for this card"
    assert (exact["ms"], exact["speed"], exact["error"]) == ("", "", "")
    assert exact["linear_share"]
    assert dense["ms"]
    assert int8["speed"]


def test_a_model_that_cannot_be_built_becomes_notes(results: Path) -> None:
    unknown = dataclasses.replace(TINY, family="none")
    encoders.run("cpu", [Group(unknown, dtype=torch.float32), ENCODER], Budget(1e9))
    with results.open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["note"]) for row in rows] == [True] * 3 + [False] * 3
    assert [bool(row["ms"]) for row in rows] == [False] * 3 + [True] * 3


def test_what_the_budget_leaves_out_is_said_and_what_was_measured_is_kept(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    def measure(group: Group, models: Models) -> list[dict[str, object]]:
        nonlocal now
        now += 50
        return [{"model": group.model.title, "part": group.part}]

    monkeypatch.setattr(encoders, "measure", measure)
    encoders.run("cpu", [ENCODER, DECODER], Budget(60, clock=lambda: now))
    with results.open() as file:
        assert [row["part"] for row in csv.DictReader(file)] == ["encoder"]
    assert "left out, 10 s of 60 s left: tiny SAM, decoder, 2 prompts" in capsys.readouterr().out


def test_settings_are_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with encoders._settings(dataclasses.replace(ENCODER, how="compile"), "cpu"):
        assert not torch._dynamo.config.force_parameter_static_shapes
        assert not torch.is_grad_enabled()
    assert torch._dynamo.config.force_parameter_static_shapes
    assert torch.is_grad_enabled()
    assert torch.get_float32_matmul_precision() == before


def test_every_group_of_a_card_is_named_once_the_most_important_first() -> None:
    chosen = list(encoders.groups("cuda"))
    assert len(set(chosen)) == len(chosen)
    assert str(chosen[0]) == "SAM-H, encoder, batch 1, eager, bfloat16"
    assert {group.model.title for group in chosen} == {"SAM-H", "SAM-B", "SAM2-B+", "SAM-L"}


def test_points_lie_in_the_picture() -> None:
    points = random_points(50, 128, "cpu")
    assert points.shape == (50, 1, 2)
    assert points.min() >= 0
    assert points.max() < 128
