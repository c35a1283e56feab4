from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bhk.pictures.scenes import make_scene
from tools import train_demo_sam as tool

pytest.importorskip("segment_anything")


def test_lessons_depend_on_their_seeds_alone() -> None:
    first, again = tool.prepare([5, 6]), tool.prepare([5, 6])
    for name in ("pictures", "kept", "points", "labels", "masks", "boxes", "edges"):
        assert torch.equal(torch.nan_to_num(getattr(first, name)), torch.nan_to_num(getattr(again, name)))


def test_answers_are_those_of_the_prompts() -> None:
    lesson = tool.prepare(list(range(12)))
    for points, labels, masks in zip(lesson.points, lesson.labels, lesson.masks, strict=True):
        for (first, second), kinds, mask in zip(points, labels.tolist(), masks, strict=True):
            covered = torch.nonzero(mask > 0).flip(1) * (tool.SIZE / tool.LOW)
            if kinds == [2, 3]:  # a box: within 4 pixels of what it stands around, and those of the coarse mask
                assert (first - covered.amin(0)).abs().max() <= 4 + tool.SIZE / tool.LOW
                assert (second - covered.amax(0)).abs().max() <= 4 + 2 * tool.SIZE / tool.LOW
            else:
                x, y = (first * tool.LOW / tool.SIZE).long().tolist()
                assert kinds[0] == 1
                assert mask[y, x] > 0


def test_boxes_beside_the_embedding_are_those_of_the_objects() -> None:
    seed = next(seed for seed in range(50) if tool.prepare([seed]).kept.min() == tool.SIZE)
    scene, extents = make_scene(seed, tool.SIZE), tool.prepare([seed]).boxes[0]
    row, column = torch.nonzero(~extents[0].isnan())[0].tolist()
    y, x = row * tool.PATCH + tool.PATCH // 2, column * tool.PATCH + tool.PATCH // 2
    (mask,) = [mask for mask in scene.masks if mask[y, x]]
    columns = np.flatnonzero(mask.any(0))
    left, right = extents[0, row, column] * tool.SIZE, extents[2, row, column] * tool.SIZE
    assert (x - float(left), x + float(right)) == pytest.approx((columns[0], columns[-1] + 1))


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "EVERY", 1)
    monkeypatch.setattr(tool, "EVALUATED", 1)
    whole = tool.train(tmp_path / "whole", 3, 1, "cpu")

    def lessons_here(first: int, batch: int, offset: int) -> Iterator[tool.Lesson]:
        """Prepare lessons in this process, because it takes seconds to start another one."""
        for step in itertools.count(first):
            yield tool.prepare([offset + step * batch + scene for scene in range(batch)])

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
