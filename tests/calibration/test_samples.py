from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sam import models
from torch import nn

from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import BatchInputs, SamInputs
from bhk.calibration.options import Calibration
from bhk.calibration.samples import inputs_for
from bhk.pictures.folder import NoPicturesError

transformers = pytest.importorskip("transformers")
_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 24,
    "patch_size": 8,
}


@pytest.mark.parametrize("size", [24, (24, 32)])
def test_vision_models_see_pictures_of_their_size(tmp_path: Path, size: Any) -> None:
    config = transformers.ViTConfig(**{**_SMALL, "image_size": size})
    model = transformers.ViTModel(config).eval()
    Image.fromarray(np.zeros((50, 90, 3), np.uint8)).save(tmp_path / "one.png")
    for samples in ("dead-leaves", tmp_path):
        inputs, _ = inputs_for(model, Calibration(samples, limit=1))
        assert inputs.run(model, 0)[0].shape[0] == 1


def test_an_image_encoder_alone() -> None:
    encoder: Any = models.small_sam().image_encoder
    inputs, _ = inputs_for(encoder, Calibration("dead-leaves", limit=1))
    assert inputs.run(encoder, 0)[0].shape == (1, 256, models.SIZE // 16, models.SIZE // 16)


def test_synthetic_pictures_have_the_side_of_what_the_encoder_sees() -> None:
    for kind in (models.small_sam, models.small_sam2, models.small_hf_sam, models.small_hf_sam2):
        inputs, _ = inputs_for(kind(), Calibration("noise", limit=1))
        assert isinstance(inputs, SamInputs)
        assert inputs.asked[0][0].shape == (models.SIZE, models.SIZE, 3)


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    model = models.small_sam()
    Image.fromarray(np.zeros((50, 90, 3), np.uint8)).save(tmp_path / "one.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    inputs, (warning,) = inputs_for(model, Calibration(tmp_path))
    assert len(inputs) == 1
    assert warning.startswith("not used for calibration: ")
    assert "broken.jpg" in warning


def test_samples_and_callables_are_taken_as_they_are() -> None:
    model = nn.Linear(3, 2)
    samples = [torch.ones(1, 3), (torch.ones(2, 3),), {"input": torch.ones(3, 3)}]
    inputs, _ = inputs_for(model, Calibration(iter(samples), limit=1))
    assert [inputs.run(model, index)[0].shape[0] for index in range(len(inputs))] == [1, 2, 3]
    for single in (torch.ones(4, 3), {"input": torch.ones(4, 3)}, lambda module: module(torch.ones(4, 3))):
        inputs, _ = inputs_for(model, Calibration(single))
        assert isinstance(inputs, BatchInputs)
        assert len(inputs) == 1
        assert inputs.run(model, 0)[0].shape == (4, 2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("deadleaves", "cannot calibrate with 'deadleaves'; expected dead-leaves, noise, or a folder"),
        (Path("noise"), "cannot calibrate with 'noise'"),
        (5, "cannot calibrate with int; expected dead-leaves, noise, a folder"),
        ([], "there are no samples"),
        ("noise", "what pictures or tokens Linear takes; calibrate with samples"),
    ],
)
def test_what_cannot_be_shown(samples: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        inputs_for(nn.Linear(3, 2), Calibration(samples))


def test_pictures_for_a_text_encoder(tmp_path: Path) -> None:
    bert = transformers.BertModel(transformers.BertConfig(**_SMALL)).eval()
    with pytest.raises(CalibrationError, match="BertModel reads tokens, so it cannot be shown the pictures of"):
        inputs_for(bert, Calibration(tmp_path))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(NoPicturesError, match="holds no pictures"):
        inputs_for(models.small_sam(), Calibration(tmp_path))
