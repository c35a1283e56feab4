from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("zstandard")

from tools.bench import conversion
from tools.bench.conversion import NOTES, TASKS, TOOLS, work


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_converts_it_loads_again(tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, packed = tmp_path / "model.pth", tmp_path / f"model{TOOLS[tool][1]}"
    tensors = {"weight": torch.randn(64, 64, generator=torch.Generator().manual_seed(0)), "bias": torch.randn(64)}
    torch.save(tensors, source)
    assert len(list(work(f"convert {tool}", str(source), str(packed)))) == 2  # ready, done
    loaded = TASKS[f"load {tool}"](packed, source)
    if tool == "zstd":
        assert bytes(loaded) == source.read_bytes()
    else:
        assert loaded.keys() == tensors.keys()
        assert torch.equal(loaded["bias"], tensors["bias"])
        assert (loaded["weight"] - tensors["weight"]).abs().max() < 0.1


def test_every_task_has_a_note() -> None:
    assert {*NOTES, "inspect bhk"} == set(TASKS)
    assert {task.split()[1] for task in TASKS} == set(TOOLS)
    assert conversion.BENCHMARK.csv == "conversion"
