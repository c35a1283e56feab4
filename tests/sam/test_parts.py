from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bhk
from bhk.checkpoint.errors import AmbiguousCheckpointError
from bhk.container.header import ModelEntry
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import Configuration
from bhk.sam.recognise import recognise
from bhk.sam.variants import packages_of, published_files, title_of
from sam import models
from sam.state_dicts import module_of, shapes_of

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)


def _write(folder: Path, model: nn.Module, *, whole: bool = False) -> Path:
    """Write a SAM as MobileSAMv2 is published; `whole` writes the encoder's file with a decoder of its own."""
    folder.mkdir()
    state = model.state_dict()
    parts = {
        group: {name[len(part) :]: tensor for name, tensor in state.items() if name.startswith(part)}
        for group, part in (("PromtEncoder", "prompt_encoder."), ("MaskDecoder", "mask_decoder."))
    }
    encoder = {name: tensor for name, tensor in state.items() if name.startswith("image_encoder.")}
    flat = {name.removeprefix("image_encoder."): tensor for name, tensor in encoder.items()}
    others = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name not in encoder}
    torch.save({**encoder, **others} if whole else flat, folder / "encoder.pt")
    torch.save(parts, folder / "Prompt_guided_Mask_Decoder.pt")
    return folder


@pytest.mark.parametrize("whole", [False, True])
def test_two_files_are_one_model(tmp_path: Path, whole: bool) -> None:
    model = models.small_sam()
    folder = _write(tmp_path / "mobilesamv2", model, whole=whole)
    checkpoint, recognised = read_checkpoint(folder)
    assert recognised is not None
    assert recognised.family.name == "sam"
    assert {name: tensor.shape for name, tensor in checkpoint.all_values().items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    expected = bhk.segment(model, _IMAGE, boxes=[(10, 10, 90, 80)])
    assert np.array_equal(bhk.segment(folder, _IMAGE, boxes=[(10, 10, 90, 80)]).masks, expected.masks)
    others = [name for name in model.state_dict() if not name.startswith("image_encoder.")]
    replaced = f"{len(others)} tensors of encoder.pt outside its image encoder"
    assert bhk.convert(folder, tmp_path / "v2.bhk").left_out == ((replaced,) if whole else ())
    model.load_state_dict(bhk.load_state_dict(tmp_path / "v2.bhk"))
    decoded = bhk.segment(model, _IMAGE, boxes=[(10, 10, 90, 80)])
    found = bhk.segment(tmp_path / "v2.bhk", _IMAGE, boxes=[(10, 10, 90, 80)])
    assert np.array_equal(found.masks, decoded.masks)
    bhk.verify(tmp_path / "v2.bhk", against=folder)


def test_a_tiny_vit_is_not_asked_about(tmp_path: Path) -> None:
    model = module_of("mobile_sam").half()
    folder = _write(tmp_path / "mobilesamv2", model)
    report = bhk.convert(folder, tmp_path / "v2.bhk", dry_run=True)
    assert not report.warnings
    recognised = read_checkpoint(folder)[1]
    assert recognised is not None
    assert recognised.entry.variant == "mobile_sam_v2_vit_t"
    assert title_of(recognised.entry) == "MobileSAMv2 (TinyViT)"
    assert packages_of(recognised.entry)[0].name == "mobile_sam"


def test_an_efficientvit_is_not_taken_for_that_of_another_model(tmp_path: Path) -> None:
    folder = _write(tmp_path / "mobilesamv2", module_of("efficientvit_sam_l2").half())
    recognised = read_checkpoint(folder)[1]
    assert recognised is not None
    assert recognised.entry.variant == "mobile_sam_v2_efficientvit_l2"
    assert title_of(recognised.entry) == "MobileSAMv2 (EfficientViT-L2)"
    assert packages_of(recognised.entry)[0].name == "mobilesamv2"
    alone = recognise(shapes_of("efficientvit_sam_l2"))
    assert alone is not None
    assert title_of(alone.entry) == "EfficientViT-SAM-L2"


def test_a_vit_h_has_a_name_of_its_own() -> None:
    found = recognise(shapes_of("sam_vit_h"), Configuration("", variant="mobile_sam_v2_vit_h"))
    assert found is not None
    assert found.entry.variant == "mobile_sam_v2_vit_h"
    assert title_of(found.entry) == "MobileSAMv2 (ViT-H)"
    assert published_files(found.entry) == ()
    assert title_of(ModelEntry("sam", "sam_vit_h")) == "SAM-H"


def test_other_files_in_a_folder_are_not_joined(tmp_path: Path) -> None:
    folder = _write(tmp_path / "both", models.small_sam())
    (folder / "Prompt_guided_Mask_Decoder.pt").rename(folder / "more.pt")
    assert read_checkpoint(folder)[1] is not None  # the content tells, not the name
    torch.save({"weight": torch.zeros(3)}, folder / "third.pt")
    with pytest.raises(AmbiguousCheckpointError, match="holds several checkpoints"):
        read_checkpoint(folder)
    (folder / "more.pt").unlink()
    with pytest.raises(AmbiguousCheckpointError, match="holds several checkpoints"):
        read_checkpoint(folder)
