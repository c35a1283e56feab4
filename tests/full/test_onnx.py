"""ONNX files of real architectures with random weights, full size, give the masks of `bhk.segment`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples.test_examples import example
from PIL import Image
from sam.models import confident
from torch import nn

import bhk
from bhk.pictures.scenes import make_scene

pytestmark = pytest.mark.full
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

POINT, BOX = (300.0, 200.0), (200.0, 150.0, 800.0, 600.0)


def _sam() -> nn.Module:
    from segment_anything import sam_model_registry

    return sam_model_registry["vit_b"]()  # type: ignore[no-any-return]


def _sam_hq(kind: str) -> nn.Module:
    from segment_anything_hq import sam_model_registry

    return sam_model_registry[kind]()  # type: ignore[no-any-return]


def _sam2() -> nn.Module:
    from sam2.build_sam import build_sam2

    return build_sam2("configs/sam2.1/sam2.1_hiera_b+.yaml", device="cpu")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "megabytes"),
    [(_sam, 95), (lambda: _sam_hq("vit_b"), 95), (lambda: _sam_hq("vit_tiny"), 8), (_sam2, 85)],
    ids=["SAM-B", "HQ-B", "HQ-Tiny", "SAM2-B+"],
)
def test_masks_are_those_of_segment(build: Callable[[], nn.Module], megabytes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build()
    for parameter in model.parameters():  # what is zero at first hides what depends on it
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    path = bhk.convert(confident(model), tmp_path / "model.bhk").path
    assert path is not None
    del model
    report = bhk.export_onnx(path, tmp_path / "onnx")
    assert report.tensors["encoder"]["int8"] > 9
    assert report.files[0].bytes < megabytes * 1_000_000  # about a byte for each weight of the encoder
    pixels = make_scene(1 << 40, 768).picture
    prompts: tuple[dict[str, Any], ...] = ({"points": [POINT]}, {"boxes": [BOX]})
    loaded = bhk.load(path)
    expected = [bhk.segment(loaded, pixels, **prompt) for prompt in prompts]
    del loaded
    gc.collect()
    sam: Any = example("segment_onnx").OnnxSam(tmp_path / "onnx")
    sam.set_image(Image.fromarray(pixels))
    asked = [sam.predict([POINT], [1]), sam.predict([], [], BOX)]
    for wanted, (masks, scores), which in zip(expected, asked, (slice(1, None), slice(0, 1)), strict=True):
        assert masks[which].shape == wanted.masks.shape
        assert 0.01 < masks[which].mean() < 0.99
        np.testing.assert_allclose(scores[which], wanted.scores, atol=1e-3)
        assert (masks[which] != wanted.masks).mean() < 1e-3  # logits near zero
        print(f"{(masks[which] != wanted.masks).sum()} pixels differ; encoder {report.files[0].bytes:,} bytes")
