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

PICTURE = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)


def written(model: nn.Module, folder: Path) -> None:
    """Convert a model, give it the weights that the file decodes to, and write its ONNX files from the codes."""
    from bhk.graphs.onnx_model import onnx_models

    path = bhk.convert(model, folder / "model.bhk").path
    assert path is not None
    bhk.load_into(model, path, mode="dense")
    with bhk.open(path) as file:
        for part in onnx_models(model, file, {name: name for name in file.names}, "int8", lambda _: None):
            assert part.tensors["int8"] > 9
            (folder / f"{part.name}.onnx").write_bytes(part.proto.SerializeToString())


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: small_sam(size=160), id="SAM with windows over the edge"),
        pytest.param(small_sam2, id="SAM 2"),
        pytest.param(small_sam_hq, id="SAM-HQ", marks=pytest.mark.full),
    ],
)
def test_masks_are_those_of_segment(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    loaded = confident(build())
    written(loaded, tmp_path)
    model: Any = example("segment_onnx").OnnxSam(tmp_path)
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


def test_prompts_are_answered_together_and_may_have_masks(tmp_path: Path) -> None:
    path = bhk.convert(confident(small_sam()), tmp_path / "model.bhk").path
    assert path is not None
    report = bhk.export_onnx(path, tmp_path / "onnx", weights="float32")
    decoder = example("segment_onnx").OnnxSam(tmp_path / "onnx").decoder
    _, part = parts_of(bhk.load(path, mode="dense"))
    random = torch.Generator().manual_seed(0)
    inputs = [torch.rand(shape, generator=random) for shape in ((1, 256, 8, 8), (3, 2, 2), (3, 2), (3, 1, 32, 32))]
    inputs[1] *= 128
    inputs[2] = torch.tensor([[1.0, -1.0], [2.0, 3.0], [0.0, 1.0]])
    inputs += [torch.tensor([0.0, 1.0, 1.0]), torch.tensor([30.0, 50.0])]
    expected = part.module(*inputs)
    found = decoder.run(None, dict(zip(part.inputs, (each.numpy() for each in inputs), strict=True)))
    for values, name, wanted in zip(found, part.outputs, expected, strict=True):
        most = 1e-5 * float(wanted.abs().max())
        np.testing.assert_allclose(values, wanted.detach().numpy(), rtol=0, atol=most, err_msg=name)
    assert found[0].shape == (3, 4, 30, 50)
    assert report.tensors["encoder"].keys() == {"float32"}


def test_another_family_is_refused() -> None:
    with pytest.raises(OnnxError, match=r"no ONNX files of torch\.Linear; it does of SAM, SAM-HQ, MobileSAM and SAM 2"):
        parts_of(nn.Linear(2, 2))
