from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bhk.nn import HyperLinear
from tools.bench import encoders
from tools.bench.encoders import BENCHMARK, TINY, Group, measure, sides
from tools.bench.frame.benchmark import Run
from tools.bench.frame.results import read_csv
from tools.bench.frame.timing import Budget
from tools.bench.models.coded_sam import coded_parts, sides_of
from tools.bench.models.sam_parts import random_points

pytest.importorskip("segment_anything")

ENCODER = Group(TINY, dtype=torch.float32)
DECODER = Group(TINY, prompts=2, dtype=torch.float32)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, tmp_path)


def test_sides_hold_equal_values() -> None:
    built = sides_of(coded_parts(TINY, "cpu"), torch.float32)
    coded = {name: module for name, module in built["exact"].named_modules() if isinstance(module, HyperLinear)}
    assert len(coded) > 20
    assert not any(isinstance(module, HyperLinear) for module in built["dense"].modules())
    for name, module in coded.items():
        assert torch.equal(built["dense"].get_submodule(name).weight, module.weight)
        assert built["int8"].get_submodule(name).compute == "int8"
    assert all(parameter.any() for parameter in built["dense"].parameters())
    exact = dict(built["exact"].named_parameters())
    for name, parameter in built["dense"].named_parameters():
        assert name not in exact or torch.equal(parameter, exact[name])


@pytest.mark.parametrize("group", [ENCODER, dataclasses.replace(ENCODER, batch=2), DECODER], ids=str)
def test_rows_tell_of_every_side(run: Run, group: Group) -> None:
    rows = measure(group, run)
    assert [row["side"] for row in rows] == ["dense", "exact", "int8"]
    dense, exact, _ = rows
    assert (dense["speed"], dense["linear_share"], dense["error"]) == ("1.000", "1.0000", "0.00e+00")
    assert 0.24 < float(str(exact["linear_share"])) < 0.35
    for row in rows:
        assert row["part"] == ("decoder, 2 prompts" if group.prompts else "encoder")
        assert float(str(row["ms"])) > 0
        assert float(str(row["error"])) < 1e-5  # layers so small fall back to exact products
        assert not {"peak_mib", "note"} & set(row)


def test_a_graph_is_captured_once_a_side_and_replayed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[object] = []

    def captured(work: Callable[[], Any], pool: object) -> Callable[[], Any]:
        captures.append(pool)
        result = work()
        return lambda: result

    monkeypatch.setattr(encoders, "captured", captured)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    rows = measure(dataclasses.replace(ENCODER, how="graph"), run)
    assert captures == [(0, 1)] * 3
    assert all(row["ms"] and "note" not in row for row in rows)


def test_a_side_that_fails_leaves_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = encoders._prepare

    def failing(group: Group, parts: Any, *rest: Any) -> Any:
        if parts is sides(TINY, torch.float32, "cpu")["exact"]:
            raise RuntimeError("\nno kernel\nfor this GPU\nat all")
        return prepare(group, parts, *rest)

    monkeypatch.setattr(encoders, "_prepare", failing)
    dense, exact, int8 = measure(ENCODER, run)
    assert exact["note"] == "RuntimeError: no kernel for this GPU"
    assert not {"ms", "speed", "error"} & set(exact)
    assert exact["linear_share"]
    assert dense["ms"]
    assert int8["speed"]


def test_a_model_that_cannot_be_built_becomes_notes(run: Run) -> None:
    unknown = dataclasses.replace(TINY, family="none", title="unknown SAM")
    benchmark = dataclasses.replace(BENCHMARK, cases=lambda run: [Group(unknown, dtype=torch.float32), ENCODER])
    assert benchmark.run(run)
    rows = read_csv(run.out / "encoders_cpu.csv")
    assert [bool(row["note"]) for row in rows] == [True] * 3 + [False] * 3
    assert [bool(row["ms"]) for row in rows] == [False] * 3 + [True] * 3


def test_building_a_model_counts_as_time(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    new = dataclasses.replace(TINY, title="new SAM")
    benchmark = dataclasses.replace(BENCHMARK, cases=lambda run: [Group(new, dtype=torch.float32)])
    benchmark.run(dataclasses.replace(run, budget=Budget(10, clock=lambda: 0.0)))
    assert "new SAM, encoder, batch 1, eager, float32: left out, 10 s of 10 s left" in capsys.readouterr().out


def test_settings_are_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with encoders._settings(dataclasses.replace(ENCODER, how="compile"), "cpu"):
        assert not torch._dynamo.config.force_parameter_static_shapes
        assert not torch.is_grad_enabled()
    assert torch._dynamo.config.force_parameter_static_shapes
    assert torch.is_grad_enabled()
    assert torch.get_float32_matmul_precision() == before


def test_every_group_of_a_gpu_is_named_once_the_most_important_first() -> None:
    chosen = list(encoders.groups("cuda"))
    assert len(set(map(str, chosen))) == len(chosen)
    assert str(chosen[0]) == "SAM-H, encoder, batch 1, eager, bfloat16"
    assert {group.model.title for group in chosen} == {"SAM-H", "SAM-B", "SAM2-B+", "SAM-L"}


def test_points_lie_in_the_picture() -> None:
    points = random_points(50, 128, "cpu")
    assert points.shape == (50, 1, 2)
    assert points.min() >= 0
    assert points.max() < 128
