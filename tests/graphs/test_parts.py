"""ONNX files of every family give the masks of `bhk.segment`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples.test_examples import example
from PIL import Image
from sam.models import confident, small_sam, small_sam2, small_sam_hq
from torch import nn

import bhk
from bhk.graphs.parts import OnnxError, parts_of

pytest.importorskip("segment_anything")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from bhk.graphs.trace import trace

PICTURE = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)


def written(model: nn.Module, folder: Path) -> nn.Module:
    """Convert a model, give it the weights that the file decodes to, and write its ONNX files from the codes."""
    from bhk.graphs.onnx_model import onnx_models

    path = bhk.convert(confident(model), folder / "model.bhk").path
    assert path is not None
    bhk.load_into(model, path, mode="dense")
    bhk.sam.fuse_attention(model)
    with bhk.open(path) as file:
        for part in onnx_models(model, file, {name: name for name in file.names}, "int8", lambda _: None):
            assert part.tensors["int8"] > 9
            (folder / f"{part.name}.onnx").write_bytes(part.proto.SerializeToString())
    return model


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A SAM with windows that reach over the edge, and the folder of its ONNX files."""
    folder = tmp_path_factory.mktemp("sam")
    return written(small_sam(size=160), folder), folder


def test_masks_are_those_of_segment(sam: tuple[nn.Module, Path]) -> None:
    compare_masks(*sam)


@pytest.mark.full
@pytest.mark.parametrize("build", [small_sam2, small_sam_hq])
def test_masks_of_relatives_are_those_of_segment(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    compare_masks(written(build(), tmp_path), tmp_path)


def compare_masks(loaded: nn.Module, folder: Path) -> None:
    """Compare what ONNX files in a folder and `bhk.segment` answer."""
    model: Any = example("segment_onnx").OnnxSam(folder)
    model.set_image(Image.fromarray(PICTURE))
    box, points = (20.0, 30.0, 120.0, 140.0), [(60.0, 50.0), (10.0, 10.0)]
    for prompt, asked in (
        ({"boxes": [box]}, model.predict([], [], box)),
        ({"points": points[:1]}, model.predict(points[:1], [1])),
        ({"points": points[:1], "not_points": points[1:], "boxes": [box]}, model.predict(points, [1, 0], box)),
    ):
        for multimask, which in ((False, slice(0, 1)), (True, slice(1, None))):
            if not multimask and len(prompt) == 1 and "points" in prompt:
                continue  # bhk.segment takes the best of several masks then
            expected = bhk.segment(loaded, PICTURE, multimask=multimask, **prompt)
            masks, scores = (values[which] for values in asked)
            assert masks.shape == expected.masks.shape
            assert 0.01 < masks.mean() < 0.99
            assert (masks != expected.masks).mean() < 1e-4  # logits near zero
            np.testing.assert_allclose(scores, expected.scores, atol=1e-4)


def test_prompts_are_answered_together_and_may_have_masks(sam: tuple[nn.Module, Path]) -> None:
    model, folder = sam
    decoder = example("segment_onnx").OnnxSam(folder).decoder
    _, part = parts_of(model)
    random = torch.Generator().manual_seed(0)
    inputs = [torch.rand(shape, generator=random) for shape in ((1, 256, 10, 10), (3, 2, 2), (3, 2), (3, 1, 40, 40))]
    inputs[1] *= 160
    inputs[2] = torch.tensor([[1.0, -1.0], [2.0, 3.0], [0.0, 1.0]])
    inputs += [torch.tensor([0.0, 1.0, 1.0]), torch.tensor([30.0, 50.0])]
    expected = part.module(*inputs)
    found = decoder.run(None, dict(zip(part.inputs, (each.numpy() for each in inputs), strict=True)))
    for values, name, wanted in zip(found, part.outputs, expected, strict=True):
        most = 1e-5 * float(wanted.detach().abs().max())
        np.testing.assert_allclose(values, wanted.detach().numpy(), rtol=0, atol=most, err_msg=name)
    assert found[0].shape == (3, 4, 30, 50)


@pytest.mark.parametrize("sides", [(14, 14), (7, 9)])
def test_positions_of_sam2_are_enlarged_by_products(sides: tuple[int, int]) -> None:
    model: Any = small_sam2()
    trunk = model.image_encoder.trunk
    trunk.pos_embed = nn.Parameter(torch.randn(1, trunk.pos_embed.shape[1], *sides))
    encoder, _ = parts_of(model)
    side = model.image_size // 4
    found = encoder.module._positions(None)
    torch.testing.assert_close(found, trunk._get_pos_embed((side, side)), rtol=0, atol=1e-5)
    modes = [
        attribute.s for node in trace(encoder).graph.node for attribute in node.attribute if attribute.name == "mode"
    ]
    assert b"cubic" not in modes


def test_another_family_is_refused() -> None:
    with pytest.raises(OnnxError, match=r"no ONNX files of torch\.Linear; it does of SAM, SAM-HQ, MobileSAM and SAM 2"):
        parts_of(nn.Linear(2, 2))
