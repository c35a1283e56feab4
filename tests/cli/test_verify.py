from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import ANY

import torch

import bhk as package
from cli.conftest import Shell, tensors


def test_an_intact_file(bhk: Shell, converted: Path) -> None:
    ended = bhk("verify", "sam.bhk")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("sam.bhk is intact: ")
    assert ", 4 tensors and " in ended.out
    assert "\n" not in ended.out[:-1]


def test_against_the_original(bhk: Shell, converted: Path) -> None:
    lines = bhk("verify", converted, "--against", "sam.pth").out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["blocks.2.weight", "blocks.10.weight"]
    found = package.verify(converted, bhk.folder / "sam.pth")
    assert found.snr_db is not None
    assert lines[4] == f"all coded tensors together: {found.snr_db:.1f} dB"
    assert lines[5] == "2 exact tensors equal to the original"
    assert lines[6].endswith("no coded tensor is farther from sam.pth than the file says")


def test_json_is_the_only_output(bhk: Shell, converted: Path) -> None:
    document = bhk("verify", "sam.bhk", "--against", "sam.pth", "--json").document
    assert document["path"] == "sam.bhk"
    assert document["bytes"] == converted.stat().st_size
    assert document["against"] == "sam.pth"
    bias, weight, *_ = document["layers"]
    assert bias == {
        "name": "blocks.2.bias",
        "encoding": "exact",
        "difference": {"equal": True, "max_abs": 0.0, "snr_db": None, "signal": ANY, "noise": 0.0},
    }
    assert weight["difference"]["equal"] is False
    assert 20 < weight["difference"]["snr_db"] < 40
    assert bhk("verify", converted, "--json").document["layers"][0]["difference"] is None


def test_quiet_prints_nothing(bhk: Shell, converted: Path) -> None:
    ended = bhk("verify", converted, "--against", "sam.pth", "-q", "--threads", 1)
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_another_original_is_one_line(bhk: Shell, converted: Path) -> None:
    torch.save(tensors() | {"steps": torch.tensor(8)}, bhk.folder / "other.pth")
    message = bhk.fails("verify", converted, "--against", "other.pth", "--quiet")
    assert message == (
        "other.pth is not the original that the file was converted from: "
        "tensor 'steps' is stored exactly, but differs from other.pth"
    )
    torch.save({"a\x1b[31m": torch.ones(1)}, bhk.folder / "other.pth")
    assert "\\x1b" in bhk.fails("verify", converted, "--against", "other.pth")
    torch.save({"teacher": tensors(), "student": {"a": torch.ones(1)}}, bhk.folder / "other.pth")
    assert "several sets of weights" in bhk.fails("verify", converted, "--against", "other.pth")
    assert bhk("verify", converted, "--against", "other.pth", "--key", "teacher").status == 0


def test_its_own_export_is_not_taken_for_the_original(bhk: Shell, converted: Path) -> None:
    bhk("export", converted, "-o", "again.pth")
    ended = bhk("verify", converted, "--against", "again.pth")
    assert ended.status == 0
    assert ended.err == "warning: again.pth holds the decoded weights; it is not the original\n"


def test_the_smallest_signal_to_noise_ratio_is_a_gate(bhk: Shell, converted: Path) -> None:
    against = ("--against", "sam.pth")
    found = package.verify(converted, bhk.folder / "sam.pth").snr_db
    assert found is not None
    assert bhk("verify", "sam.bhk", *against, "--min-snr", f"{found - 0.1}").status == 0
    ended = bhk("verify", "sam.bhk", *against, "--min-snr", f"{found + 1:.2f}", "--json")
    assert ended.status == 1
    assert ended.err == f"error: the coded tensors have {found:.2f} dB, less than {found + 1:.2f} dB\n"
    assert json.loads(ended.out)["path"] == "sam.bhk"
    assert bhk("verify", "sam.bhk", "--min-snr", "20").status == 2
