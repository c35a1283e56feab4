from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.bench import ceilings
from tools.bench.ceilings import KINDS, ON_CPU, ceilings_of
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
    monkeypatch.setattr(
        ceilings,
        "_work",
        lambda kind, run: [("one", lambda: None, 100 if kind == "copy" else 4000), ("slower", lambda: None, 50)],
    )
    monkeypatch.setattr(ceilings, "alternate", lambda calls, device, **limits: dict.fromkeys(calls, 0.5))
    return Run(tmp_path, tmp_path, device="cuda", only="4096 to 4096")


def test_layers_get_the_ceilings_of_their_own_run(gpu: Run) -> None:
    before = torch.get_float32_matmul_precision()
    found = ceilings_of(gpu)
    assert [row["what"] for row in read_csv(gpu.out / "ceilings_some_gpu.csv")] == list(KINDS)
    assert found.per_second == {"copy": 200.0, **dict.fromkeys(list(KINDS)[1:], 8000.0)}
    assert found.floor(1000, 8000, "int8") == 5.0  # bytes
    assert found.floor(1000, 80_000, "tf32") == 10.0  # operations
    assert torch.get_float32_matmul_precision() == before
    assert ceilings_of(gpu) is found


def test_a_cpu_has_ceilings_of_the_numbers_that_it_multiplies(tmp_path: Path) -> None:
    found = ceilings_of(Run(tmp_path, tmp_path, quick=True))
    assert [row["what"] for row in read_csv(tmp_path / "ceilings_cpu.csv")] == list(ON_CPU) == list(found.per_second)
    assert all(rate > 1e8 for rate in found.per_second.values())
