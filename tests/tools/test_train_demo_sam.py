from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tools import train_demo_sam as tool
from tools.demo_lessons import Lesson, prepare

pytest.importorskip("segment_anything")


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "EVERY", 1)
    monkeypatch.setattr(tool, "EVALUATED", 1)
    whole = tool.train(tmp_path / "whole", 3, 1, "cpu")

    def lessons_here(first: int, batch: int, offset: int) -> Iterator[Lesson]:
        """Prepare lessons in this process, because it takes seconds to start another one."""
        for step in itertools.count(first):
            yield prepare([offset + step * batch + scene for scene in range(batch)])

    monkeypatch.setattr(tool, "lessons", lessons_here)
    write = tool.write_row

    def stop_at_two(path: Path, row: dict[str, float]) -> None:
        if row["step"] == 2:
            raise KeyboardInterrupt
        write(path, row)

    monkeypatch.setattr(tool, "write_row", stop_at_two)
    with pytest.raises(KeyboardInterrupt):
        tool.train(tmp_path / "stopped", 3, 1, "cpu")
    monkeypatch.setattr(tool, "write_row", write)
    resumed = tool.train(tmp_path / "stopped", 3, 1, "cpu")

    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    logs = [list(csv.DictReader((tmp_path / run / "log.csv").open())) for run in ("whole", "stopped")]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == ["1", "2", "3"]
    assert [row["single"] for row in logs[0]] == [row["single"] for row in logs[1]]
