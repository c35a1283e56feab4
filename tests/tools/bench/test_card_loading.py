from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

pytest.importorskip("segment_anything")

from tools.bench import card_loading
from tools.bench.card_loading import DEMO, FIGURES, SIDES, make_files, measure_here, medians
from tools.bench.frame import results
from tools.bench.frame.timing import Budget


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(DEMO, folder)
    return folder


@pytest.mark.parametrize("name", SIDES)
def test_a_side_loads_and_gives_a_mask(files: Path, name: str) -> None:
    side = SIDES[name]
    figures = measure_here(side, files / side.file, "cpu")
    assert tuple(figures) == FIGURES
    load, first_mask = figures["seconds_load"], figures["seconds_first_mask"]
    assert load is not None
    assert first_mask is not None
    assert 0 < load < first_mask
    assert figures["peak_mib"] is None


def test_sides_end_in_one_dtype(files: Path) -> None:
    for side in SIDES.values():
        model = side.load(files / side.file, "cpu", torch.bfloat16)
        assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


def test_columns_are_medians_of_what_is_known() -> None:
    nothing = dict.fromkeys(FIGURES)
    found = [{**nothing, "seconds_load": seconds, "peak_mib": 10 * seconds} for seconds in (1.0, 2.0, 9.0)]
    columns = medians([*found])
    assert (columns["seconds_load"], columns["peak_mib"], columns["host_peak_mib"]) == ("2.000", "20.0", "")
    assert medians([]) == dict.fromkeys(FIGURES, "")


def test_a_side_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def apart(name: str, path: Path, device: str) -> dict[str, float | None]:
        calls.append(name)
        if name == "bhk int8":
            raise subprocess.CalledProcessError(1, "python", stderr="Traceback\nRuntimeError: no kernel\n")
        return dict.fromkeys(FIGURES, 1.0)

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(card_loading, "measure_apart", apart)
    rows = {row["side"]: row for row in card_loading.run(DEMO, "cpu", 2, Budget(1e9), tmp_path)}
    assert calls.count("bhk exact") == 2
    assert calls.count("bhk int8") == 1
    assert rows["bhk int8"]["note"] == "RuntimeError: no kernel"
    assert (rows["bhk int8"]["seconds_load"], rows["bhk exact"]["seconds_load"]) == ("", "1.000")
    assert (tmp_path / "card_loading_cpu.csv").exists()


def test_on_a_card_bhk_is_run_once_before_it_counts() -> None:
    turns = list(card_loading._turns("cuda", 2))
    assert turns[:3] == [("bhk exact", False), ("bhk int8", False), ("bhk dense", False)]
    assert turns[3:] == [(name, True) for name in SIDES] * 2
