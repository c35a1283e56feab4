from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bhk.codec.feedback import feedback_from
from tools.bench.coders.ideas import Idea

STEP = 0.5


@pytest.fixture
def as_bhk(tmp_path: Path) -> Idea:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 41, generator=generator) @ torch.randn(41, 41, generator=generator)
    feedback = feedback_from(inputs.T @ inputs)
    assert feedback is not None
    tensors = {"linear": torch.randn(70, 41, generator=generator), "bias": torch.randn(70, generator=generator)}
    save_file(tensors | {"exact": torch.ones(3)}, tmp_path / "source")
    rows = torch.logspace(-2, 2, 70)
    known = {"linear/order": feedback.order, "linear/factor": feedback.factor, "linear/rows": rows}
    save_file(known, tmp_path / "evidence", {"steps": json.dumps({"linear": STEP, "bias": STEP})})
    return Idea(tmp_path / "evidence")


@pytest.mark.parametrize(
    ("changes", "farthest"),
    [
        ({}, 0.5),
        ({"level_db": 20.0}, 0.05),
        ({"level_db": 60.0}, 0.0005),  # codes of two bytes
        ({"offset": 0.0}, 0.5),
        ({"offset": 0.0, "dead_zone": 0.1}, 0.6),
        ({"offset": 0.0, "rows": 0.5}, 4.0),
        ({"columns": 0.5}, 4.0),
        ({"offset": 0.0, "rows": 0.5, "columns": 0.5}, 16.0),
        ({"trellis": True}, 1.2),
    ],
)
def test_files_hold_what_was_coded(tmp_path: Path, as_bhk: Idea, changes: dict[str, float], farthest: float) -> None:
    idea = replace(as_bhk, **changes)  # type: ignore[arg-type]
    idea.encode(tmp_path / "source", tmp_path / "coded")
    decoded = idea.decode(tmp_path / "coded")
    assert torch.equal(decoded["exact"], torch.ones(3))
    source = load_file(tmp_path / "source")
    assert decoded["linear"].shape == source["linear"].shape
    assert float((decoded["bias"] - source["bias"]).abs().max()) <= farthest * STEP + 1e-6
    # The first column in the order of feedback has its own error only.
    first = 2 * int(load_file(tmp_path / "evidence")["linear/order"][0]) + 1
    assert float((decoded["linear"] - source["linear"])[:, first].abs().max()) <= farthest * STEP + 1e-6
