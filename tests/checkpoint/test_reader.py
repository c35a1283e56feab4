from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from bhk.checkpoint import (
    AmbiguousCheckpointError,
    CheckpointError,
    CheckpointNotFoundError,
    Layout,
    UnreadableCheckpointError,
    read,
)


def test_ties_prefixes_and_the_wrapper_are_remembered(here: Path) -> None:
    shared = torch.ones(2, 3)
    names = ["shared_image_embedding", "mask_token", "prompt_encoder.shared_embedding"]
    content = dict(zip((f"module._orig_mod.{n}" for n in names), (shared, torch.zeros(1), shared), strict=True))
    torch.save({"model": content, "epoch": 3}, "sam.pth")
    checkpoint = read("sam.pth")
    assert list(checkpoint.tensors) == names[:2]
    assert checkpoint.aliases == {names[0]: (names[2],)}
    assert checkpoint.layout == Layout(("model",), (), "module._orig_mod.")
    assert checkpoint.left_out == ("epoch",)


def test_the_prefix_of_every_group_is_stripped(here: Path) -> None:
    torch.save({"A": {"module.x": torch.ones(1)}, "B": {"module.y": torch.zeros(1)}}, "sam.pth")
    checkpoint = read("sam.pth")
    assert list(checkpoint.tensors) == ["A.x", "B.y"]
    assert checkpoint.layout == Layout((), ("A", "B"), "module.")


def test_the_source_has_a_name_without_a_place(here: Path) -> None:
    torch.save({"a": torch.ones(1)}, here / "sam.pth")
    assert read(here / "sam.pth").source.name == "sam.pth"
    assert read(here).source.name == here.name
    assert read(".").source.name == here.name
    assert read("sam.pth").source.size == (here / "sam.pth").stat().st_size


def test_other_checkpoints_in_the_folder_are_reported(here: Path) -> None:
    for name in ("model.pth", "optimizer.pt"):
        torch.save({"a": torch.ones(1)}, name)
    assert read(".").left_out == ("optimizer.pt (another file in the folder)",)


def test_unrelated_checkpoints_in_a_folder_are_ambiguous(here: Path) -> None:
    for name in ("b.pth", "h.pth"):
        torch.save({"a": torch.ones(1)}, name)
    with pytest.raises(AmbiguousCheckpointError, match=r"b\.pth, h\.pth"):
        read(".")


@pytest.mark.parametrize("source", ["sam.pth", "/no/such/sam", "folder/sam", "user/sam.pth", "file/sam", "a/b/c"])
def test_a_missing_file_is_not_searched_on_the_hub(here: Path, source: str) -> None:
    (here / "folder").mkdir()
    (here / "file").touch()
    with pytest.raises(CheckpointNotFoundError, match="does not exist; check the name"):
        read(source)


@pytest.mark.parametrize("source", ["a\0b", "x" * 5000])
def test_impossible_names_are_unreadable(source: str) -> None:
    with pytest.raises(UnreadableCheckpointError, match="cannot read") as caught:
        read(source)
    assert len(str(caught.value)) < 500


def test_every_flipped_byte_reads_or_is_refused(here: Path) -> None:
    torch.save({"model": {"a": torch.ones(3), "b": torch.zeros(2, dtype=torch.int64)}}, "whole.pth")
    whole = Path("whole.pth").read_bytes()
    for position in range(0, len(whole), 23):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        Path("damaged.pth").write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            assert read("damaged.pth").tensors
