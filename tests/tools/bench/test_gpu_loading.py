from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("segment_anything")

from tools.bench import gpu_loading
from tools.bench.frame.benchmark import Run
from tools.bench.frame.process import Apart, ProcessError, Stage
from tools.bench.frame.results import read_csv
from tools.bench.gpu_loading import BENCHMARK, FIGURES, SIDES, load_and_ask, make_files, medians, turns
from tools.bench.models.synthetic import DEMO


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(DEMO, folder)
    return folder


@pytest.mark.parametrize("name", SIDES)
def test_a_side_loads_and_gives_a_mask(files: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    decode = gpu_loading.Parts.decode

    def noted(*given: Any) -> Any:
        answers.append(decode(*given))
        return answers[-1]

    monkeypatch.setattr(gpu_loading.Parts, "decode", noted)
    stages = list(load_and_ask(name, str(files / SIDES[name].file), "cpu"))
    assert len(stages) == 3  # ready, loaded, asked
    ((logits, scores),) = answers
    assert (logits.shape[:2], scores.shape) == ((1, 3), (1, 3))


def test_sides_end_in_one_dtype(files: Path) -> None:
    for side in SIDES.values():
        model = side.load(files / side.file, "cpu", torch.bfloat16)
        assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


def _loading(seconds: float, gpu: float | None = None) -> Apart:
    return Apart([Stage(seconds, 0, None, gpu, gpu), Stage(2 * seconds, 0, None, gpu, gpu)], 0, 3 * seconds)


def test_columns_are_medians_of_what_is_known() -> None:
    columns = medians([_loading(seconds, 10 * seconds) for seconds in (1.0, 2.0, 9.0)])
    assert [columns[name] for name in FIGURES] == ["2.000", "4.000", "20.0", "20.0", "20.0", ""]
    assert medians([]) == dict.fromkeys(FIGURES, "")


def test_a_side_that_fails_leaves_the_others(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def apart(work: Callable[..., Any], side: str, *rest: object, longest: float) -> Apart:
        calls.append(side)
        if side == "bhk int8":
            raise ProcessError("RuntimeError: no kernel")
        return _loading(1.0)

    monkeypatch.setattr(gpu_loading, "apart", apart)
    monkeypatch.setattr(gpu_loading, "make_files", lambda _, folder: shutil.copytree(files, folder, dirs_exist_ok=True))
    run = Run(tmp_path / "files", tmp_path, options={"variant": DEMO, "runs": 2})
    run.folder.mkdir()
    assert BENCHMARK.run(run)
    rows = {row["side"]: row for row in read_csv(tmp_path / "gpu_loading_cpu.csv")}
    assert list(rows) == list(SIDES)
    assert calls.count("bhk exact") == 2
    assert calls.count("bhk int8") == 1
    assert rows["bhk int8"]["note"] == "RuntimeError: no kernel"
    assert (rows["bhk int8"]["seconds_load"], rows["bhk exact"]["seconds_load"]) == ("", "1.000")
    assert (rows["bhk int8"]["processes"], rows["bhk exact"]["processes"]) == ("0", "2")


def test_on_a_gpu_bhk_is_run_once_before_it_counts() -> None:
    found = [(turn.side, turn.counts) for turn in turns("cuda", 2)]
    assert found[:3] == [("bhk exact", False), ("bhk int8", False), ("bhk dense", False)]
    assert found[3:] == [(name, True) for name in SIDES] * 2
