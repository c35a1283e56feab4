from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.bench import ceilings, hyperlinear
from tools.bench.ceilings import KINDS
from tools.bench.frame import results
from tools.bench.frame.benchmark import Run
from tools.bench.frame.results import read_csv


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a pretended GPU, on which everything takes half a second."""
    monkeypatch.setattr(results, "device_name", lambda device: "some_gpu")
    monkeypatch.setattr(results, "machine", lambda device: {"device": "Some GPU"})
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(ceilings, "_work", lambda kind: (lambda: None, 100 if kind == "copy" else 4000))
    monkeypatch.setattr(ceilings, "alternate", lambda calls, device, **limits: dict.fromkeys(calls, 0.5))
    return Run(tmp_path, tmp_path, device="cuda", only="4096 to 4096")


def test_layers_get_the_ceilings_of_their_own_run(gpu: Run) -> None:
    before = torch.get_float32_matmul_precision()
    found = hyperlinear.ceilings_of(gpu)
    assert [row["what"] for row in read_csv(gpu.out / "ceilings_some_gpu.csv")] == list(KINDS)
    assert found.per_second == {"copy": 200.0, **dict.fromkeys(list(KINDS)[1:], 8000.0)}
    assert found.floor(1000, 8000, "int8") == 5.0  # bytes
    assert found.floor(1000, 80_000, "tf32") == 10.0  # operations
    assert torch.get_float32_matmul_precision() == before
    assert hyperlinear.ceilings_of(gpu) is found
