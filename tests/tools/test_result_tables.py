from __future__ import annotations

from pathlib import Path

import pytest

from tools import result_tables
from tools.result_tables import as_close_as_published


def row(coder: str, ratio: str, loss: float) -> dict[str, str]:
    return {"coder": coder, "ratio": ratio, "loss": str(loss)}


def test_each_coder_shows_its_smallest_file_that_matches_the_published_method() -> None:
    rows = [
        row("published method", "4.6", 0.01),
        row("bhk", "10", 0.01),
        row("bhk", "9", 0.008),
        row("bhk", "12", 0.02),
        row("far off", "8", 0.05),
        row("far off", "7", 0.02),
        row("not installed", "", 0.0),
    ]
    chosen = as_close_as_published(rows, lambda row: (float(row["loss"]),))
    assert [(row["coder"], row["ratio"]) for row in chosen] == [
        ("published method", "4.6"),
        ("bhk", "10"),
        ("far off", "7"),
    ]


def test_a_gpu_that_was_not_measured_has_one_sentence_and_no_headings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(result_tables, "RESULTS", tmp_path)
    assert result_tables.on_gpu() == [result_tables.NOT_YET]
    (tmp_path / f"ceilings_{result_tables.GPU}.csv").write_text("what,per_second\nread,4e12\n")
    table = ["| what | TB/s or TFLOP/s |", "|---|--:|", "| read | 4 |"]
    assert result_tables.on_gpu() == [result_tables.MEASURED, "", "What the GPU reaches:", "", *table]
