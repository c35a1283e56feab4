"""Meta's own SAM 3, built by its package `sam3`, which the tests skip where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import bhk
from bhk.container.header import ModelEntry
from bhk.nn.meta import weights_on_meta
from bhk.pictures.dead_leaves import dead_leaves
from bhk.sam.architecture import Sam3
from bhk.sam.build import build_model
from bhk.sam.original_sam3 import WithoutGpu, build_sam3, vocabulary_of
from bhk.sam.prediction import original_sam3
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.variants import FAMILIES
from bhk.sam.vocabulary import meaningless, write_vocabulary
from sam.state_dicts import shapes_of

pytestmark = pytest.mark.full
sam3 = pytest.importorskip("sam3")
PICTURE = dead_leaves(3, 128).picture[:90, :120]
POINT, BOX = (60.0, 40.0), (20.0, 30.0, 90.0, 70.0)


@pytest.mark.parametrize("video", [False, True])
def test_the_package_builds_a_model_of_the_published_names_and_shapes(video: bool) -> None:
    with weights_on_meta():
        model = build_model(ModelEntry("sam3", "sam3", {"release": "3"}), video=video)
    expected = {FAMILIES["sam3"].name_in(name, video=video): shape for name, shape in shapes_of("sam3").items()}
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected
    assert not torch.is_autocast_enabled("cuda")


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the package build small encoders."""
    module: Any = sys.modules["sam3.model_builder"]
    sizes = {
        "ViT": {"embed_dim": 64, "depth": 2, "num_heads": 2, "global_att_blocks": (1,)},
        "VETextEncoder": {"width": 64, "heads": 2, "layers": 2},
    }
    for name, small in sizes.items():
        kind = getattr(module, name)
        monkeypatch.setattr(module, name, lambda kind=kind, small=small, **options: kind(**{**options, **small}))
    return iter(())


@pytest.fixture
def pair(builders: None, tmp_path: Path) -> tuple[Any, Any]:
    """A small SAM 3 of the package with the decoded weights of a file, and one that holds the file's codes."""
    torch.manual_seed(0)
    model: Any = build_sam3(sam3, Sam3())
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02)
    bhk.convert(model.eval(), tmp_path / "sam3.bhk")
    model.load_state_dict(bhk.load_state_dict(tmp_path / "sam3.bhk"))
    with weights_on_meta():
        coded = build_sam3(sam3, Sam3())
    report = bhk.load_into(coded, tmp_path / "sam3.bhk", mode="hyper")
    assert report.replaced > 100
    write_vocabulary(tmp_path, meaningless())
    for each in (model, coded):
        vocabulary = vocabulary_of(each)
        assert vocabulary is not None
        vocabulary.place = tmp_path
    return model, coded


def _processor(model: Any) -> Any:
    from sam3.model.sam3_image_processor import Sam3Processor

    return Sam3Processor(model, device="cpu", confidence_threshold=0.0)


def _agree(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> None:
    assert ours.shape == theirs.shape
    assert len(ours)
    assert 0 < theirs.mean() < 1
    assert float((ours ^ theirs).mean()) < 1e-4


def test_masks_are_those_of_the_package(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original_sam3, "THRESHOLD", 0.0)
    model, coded = pair
    processor = _processor(model)
    state = processor.set_image(Image.fromarray(PICTURE))
    for options, prompt in (
        ({"points": [POINT]}, {"point_coords": np.array([POINT]), "point_labels": np.array([1])}),
        ({"boxes": [BOX]}, {"box": np.array(BOX)}),
    ):
        found = bhk.segment(coded, PICTURE, multimask=True, **options)
        masks, scores, _ = model.predict_inst(state, multimask_output=True, **prompt)
        _agree(found.masks, masks.astype(bool))
        assert found.scores == pytest.approx(scores.tolist(), abs=1e-4)
    found = bhk.segment(coded, PICTURE, texts=["a cup"])
    with WithoutGpu():
        expected = processor.set_text_prompt("a cup", state)
    order = expected["scores"].argsort(descending=True)
    assert found.scores == pytest.approx(expected["scores"][order].tolist(), abs=1e-4)
    _agree(found.masks, expected["masks"][order, 0].numpy())
    predictor = original_sam3.OriginalSam3Predictor(model, sam3)
    predictor.set_image(PICTURE)
    tokens = model.backbone.language_backbone.tokenizer(["a cup"], context_length=32)
    with torch.no_grad():  # as calibration asks
        _, sure, _ = predictor.probabilities({"input_ids": tokens, "attention_mask": (tokens != 0).long()})
    assert sure.flatten().sort(descending=True).values.tolist() == pytest.approx(found.scores, abs=1e-4)
    with pytest.raises(PredictionError, match="no generator of masks"):
        bhk.segment(coded, PICTURE, everything=True)
