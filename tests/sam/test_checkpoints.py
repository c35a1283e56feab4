from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tasks.checkpoints import draw, save, small

import bhk
from bhk.checkpoint import CheckpointError
from bhk.container.errors import FormatError
from bhk.sam.checkpoints import open_tensors, read_checkpoint


def test_an_unknown_checkpoint_keeps_its_names(tmp_path: Path) -> None:
    tensors = {f"sam.{name}": tensor for name, tensor in small().items()}
    checkpoint, recognised = read_checkpoint(save(tmp_path / "a.pth", tensors))
    assert recognised is None
    assert list(checkpoint.tensors) == list(tensors)


def test_the_prefixes_of_trainer_and_wrapper_add_up(tmp_path: Path) -> None:
    tied = torch.ones(4)
    names = ("mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight", "prompt_encoder.no_mask_embed.weight")
    tensors = {f"module.sam.{name}": tied for name in names[:2]} | {f"module.sam.{names[2]}": torch.zeros(2)}
    checkpoint, recognised = read_checkpoint(save(tmp_path / "a.pth", tensors))
    assert recognised is not None
    assert list(checkpoint.tensors) == [names[0], names[2]]
    assert checkpoint.aliases == {names[0]: (names[1],)}
    assert checkpoint.layout.prefix == "module.sam."


def test_both_kinds_of_files_open_with_all_names(tmp_path: Path) -> None:
    tied = draw({"x": (40, 40)})["x"]
    source = save(tmp_path / "a.pth", {"b.weight": tied, "a.weight": tied, "c.steps": torch.tensor(3)})
    report = bhk.convert(source)
    for path in (source, report.path):
        with open_tensors(path) as file:
            assert file.label == path.name
            assert set(file.names) == {"a.weight", "b.weight", "c.steps"}
            assert torch.equal(file.tensor("a.weight"), file.tensor("b.weight"))
            assert torch.equal(file.tensor("c.steps"), torch.tensor(3))


def test_a_file_of_neither_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.bhk").write_bytes(b"\x89BHK\r\n\x1a\n" + bytes(100))
    with pytest.raises(CheckpointError, match="text file"), open_tensors(tmp_path / "a.txt"):
        pass
    with pytest.raises(FormatError), open_tensors(tmp_path / "b.bhk"):
        pass
