from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import bhk
from bhk.checkpoint import CheckpointError
from tasks.checkpoints import draw, save, small


def test_every_status(tmp_path: Path) -> None:
    a = {
        "same": torch.ones(3),
        "other": torch.ones(4),
        "shape": torch.ones(2, 3),
        "type": torch.ones(2),
        "a": torch.ones(1),
    }
    b = {"b": torch.ones(1), "type": torch.ones(2).double(), "shape": torch.ones(6), "other": torch.zeros(4)}
    b["same"] = torch.ones(3)
    seen: list[tuple[str, int, int]] = []
    found = bhk.diff(
        save(tmp_path / "a.pth", a),
        save(tmp_path / "b.pth", b),
        progress=lambda *told: seen.append(told),
    )
    assert [(entry.name, entry.status, entry.detail) for entry in found.tensors] == [
        ("same", "equal", ""),
        ("other", "changed", ""),
        ("shape", "shape", "[2, 3] and [6]"),
        ("type", "dtype", "torch.float32 and torch.float64"),
        ("a", "only a", ""),
        ("b", "only b", ""),
    ]
    assert found.tensors[1].difference is not None
    assert (found.tensors[1].difference.max_abs, found.tensors[1].difference.snr_db) == (1, 0)
    assert seen == [("Comparing", count, 6) for count in range(1, 7)]


def test_a_file_does_not_differ_from_itself(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    path = bhk.convert(source).path
    for name in (source, path):
        assert bhk.diff(name, name).equal


def test_files_of_any_kind_can_be_compared(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", {"model": {f"module.{name}": tensor for name, tensor in small().items()}})
    fine, coarse = (
        bhk.convert(source, tmp_path / f"{snr}.bhk", quality=bhk.Quality(snr_db=snr)).path for snr in (36, 18)
    )
    assert [str(bhk.diff(*pair)).count("was made with") for pair in ((source, fine), (fine, coarse))] == [0, 2]
    for a, b, low, high in ((source, fine, 35, 38), (coarse, source, 17, 20), (fine, coarse, 17, 20)):
        found = {entry.name: entry for entry in bhk.diff(a, b).tensors}
        assert found["blocks.2.bias"].status == "equal"
        for name in ("blocks.2.weight", "blocks.10.weight"):
            assert found[name].status == "changed"
            assert low < found[name].difference.snr_db < high
    bhk.export(fine, tmp_path / "fine.safetensors")
    assert bhk.diff(fine, tmp_path / "fine.safetensors").equal


def test_each_tied_name_is_compared(tmp_path: Path) -> None:
    tied = draw({"x": (4, 4)})["x"]
    a = save(tmp_path / "a.pth", {"p": tied, "q": tied})
    b = save(tmp_path / "b.pth", {"p": tied, "q": tied + 1})
    assert [(entry.name, entry.status) for entry in bhk.diff(a, b).tensors] == [("p", "equal"), ("q", "changed")]


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    a = save(tmp_path / "a.pth", {"x": torch.tensor([1.0, math.nan])})
    b = save(tmp_path / "b.pth", {"x": torch.tensor([2.0, math.nan])})
    assert bhk.diff(a, a).equal
    (entry,) = bhk.diff(a, b).tensors
    assert entry.status == "changed"
    assert entry.difference is not None
    assert math.isnan(entry.difference.max_abs)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    with pytest.raises(CheckpointError, match="does not exist"):
        bhk.diff(source, tmp_path / "b.pth")


def test_the_key_chooses_a_state_dict(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", {"teacher": small(), "student": draw({"only.weight": (40, 40)})})
    path = bhk.convert(source, key="student").path
    assert [(entry.name, entry.status) for entry in bhk.diff(source, path, key="student").tensors] == [
        ("only.weight", "changed")
    ]
