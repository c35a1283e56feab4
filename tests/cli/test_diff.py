from __future__ import annotations

import json
from pathlib import Path

import torch

from cli.conftest import Shell, tensors


def test_differing_tensors_are_listed(bhk: Shell, converted: Path) -> None:
    ended = bhk("diff", "sam.pth", "sam.bhk")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines[2:-1]] == [
        ["blocks.2.weight", "changed"],
        ["blocks.10.weight", "changed"],
    ]
    assert lines[-1] == "2 changed, 2 equal"


def test_equal_files_are_one_line(bhk: Shell, converted: Path) -> None:
    assert bhk("diff", "sam.bhk", "sam.bhk").out == "4 equal\n"


def test_names_and_shapes(bhk: Shell, source: Path) -> None:
    others = {name: tensor for name, tensor in tensors().items() if name != "steps"}
    others["blocks.2.bias"] = torch.ones(7)
    others["new\x1b[31m"] = torch.tensor([torch.nan])
    torch.save(others, bhk.folder / "other.pth")
    out = bhk("diff", "sam.pth", "other.pth").out
    assert "shape [48] and [7]" in out
    assert "new\\x1b[31m" in out
    assert out.splitlines()[-1] == "2 equal, 1 shape, 1 only a, 1 only b"


def test_json_is_the_only_output(bhk: Shell, converted: Path) -> None:
    document = bhk("diff", "sam.pth", "sam.bhk", "--json").document
    assert (document["a"], document["b"]) == ("sam.pth", "sam.bhk")
    assert document["counts"] == {"changed": 2, "equal": 2}
    found = {entry["name"]: entry for entry in document["tensors"]}
    assert found["steps"] == {
        "name": "steps",
        "status": "equal",
        "detail": "",
        "difference": {"equal": True, "max_abs": 0.0, "snr_db": None, "signal": 49.0, "noise": 0.0},
    }
    assert found["blocks.2.weight"]["difference"]["max_abs"] > 0


def test_a_difference_is_a_gate(bhk: Shell, converted: Path) -> None:
    assert bhk("diff", "sam.bhk", "sam.bhk", "--exit-code").status == 0
    assert bhk("diff", "sam.pth", "sam.bhk").status == 0
    ended = bhk("diff", "sam.pth", "sam.bhk", "--exit-code", "--json")
    assert (ended.status, ended.err) == (1, "error: 2 of 4 tensors differ\n")
    assert json.loads(ended.out)["counts"] == {"changed": 2, "equal": 2}


def test_quiet_prints_nothing(bhk: Shell, converted: Path) -> None:
    ended = bhk("diff", "sam.pth", "sam.bhk", "--quiet")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_an_error_is_one_line(bhk: Shell, source: Path) -> None:
    (bhk.folder / "empty.bhk").write_bytes(b"")
    assert bhk.fails("diff", "sam.pth", "none.pth").startswith("none.pth does not exist")
    assert bhk.fails("diff", "empty.bhk", "sam.pth").startswith("empty.bhk: found 0 bytes, expected at least 64")
