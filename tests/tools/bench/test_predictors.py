from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("segment_anything")

from bhk.kernels import attention, reference
from tools.bench.frame.benchmark import Run
from tools.bench.frame.results import read_csv
from tools.bench.models.synthetic import DEMO
from tools.bench.predictors import BENCHMARK, FRAMES, SIDES, Everything, write_frames
from tools.bench.runtimes.in_torch import write_files


@pytest.mark.full
def test_all_sides_find_the_same_masks(tmp_path: Path) -> None:
    run = Run(tmp_path / "scratch", tmp_path, quick=True, options={"runs": 1})
    run.folder.mkdir()
    assert BENCHMARK.run(run)
    rows = read_csv(tmp_path / "predictors_cpu.csv")
    assert [row["side"] for row in rows] == ["dense", "bhk exact", "bhk int8"]
    dense, exact, int8 = rows
    assert int(dense["masks"]) == int(exact["masks"]) > 0
    assert (dense["iou_mean"], exact["ratio"] != "") == ("1.00000", True)
    assert float(exact["iou_min"]) > 0.99
    assert float(int8["iou_mean"]) > 0.95


def test_int8_rounds_in_linear_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "INTEGER_SIZE", reference.INTEGER_SIZE)  # loading the demo SAM changes it
    monkeypatch.setattr(attention, "is_faster", lambda *_: False)  # attention rounds nowhere
    folder = write_files(DEMO, tmp_path)
    with torch.no_grad():
        dense, exact, int8 = (Everything(folder, side).run() for side in SIDES)
    assert (exact == dense).mean() > 0.9999
    assert int8.shape == exact.shape
    assert 0 < (int8 != exact).mean() < 0.01


def test_frames_are_windows_of_one_size_that_move(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    frames = [Image.open(path) for path in sorted((tmp_path / "frames").iterdir())]
    assert len(frames) == FRAMES
    assert len({frame.size for frame in frames}) == 1
    assert frames[0].tobytes() != frames[1].tobytes()
