"""Packages that no index has: stand-ins with the signatures of theirs, computing by `segment_anything`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import segment_anything
import torch
from torch import Tensor, nn

from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import Masks, PredictionError, predictor_for
from sam import models

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
_PROMPT = Prompt(((40, 30),), ((80, 80),), (10, 10, 90, 80))


def _install(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> Any:
    """Make a package importable, and return a small SAM of its class `Sam`."""
    package = ModuleType(name)
    package.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, package)
    model = models.small_sam()
    model.__class__ = type("Sam", (type(model),), {"__module__": f"{name}.modeling.sam"})
    return model


@torch.no_grad()
def _masks(model: nn.Module, *, multimask: bool) -> Masks:
    predictor = predictor_for(model)
    predictor.set_image(_IMAGE)
    return predictor.predict(_PROMPT, multimask=multimask)


class _EdgePredictor(segment_anything.SamPredictor):  # type: ignore[misc]
    def predict_torch(
        self,
        features: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        boxes: Tensor,
        mask_input: None = None,
        num_multimask_outputs: int = 3,
        return_logits: bool = False,
        use_stability_score: bool = True,
    ) -> Any:
        assert features is self.features
        assert not use_stability_score
        several = num_multimask_outputs == 3
        return super().predict_torch(point_coords, point_labels, boxes, multimask_output=several)


class _TinyPredictor(segment_anything.SamPredictor):  # type: ignore[misc]
    def predict_torch(
        self,
        point_coords: Tensor,
        point_labels: Tensor,
        boxes: Tensor | None = None,
        mask_input: None = None,
        return_logits: bool = False,
    ) -> Any:
        return super().predict_torch(point_coords, point_labels, boxes, None, True, return_logits)


class _HierarchicalGenerator(segment_anything.SamAutomaticMaskGenerator):  # type: ignore[misc]
    def hierarchical_generate(self, image: Any) -> Any:
        return super().generate(image)

    def generate(self, image: Any, need_high: bool) -> Any:
        raise AssertionError("one half of the work")


@pytest.mark.parametrize("multimask", [False, True])
def test_edge_sam(monkeypatch: pytest.MonkeyPatch, multimask: bool) -> None:
    expected, scores = _masks(models.small_sam(), multimask=multimask)
    found, found_scores = _masks(_install(monkeypatch, "edge_sam", SamPredictor=_EdgePredictor), multimask=multimask)
    assert np.array_equal(found, expected)
    assert np.array_equal(found_scores, scores)


def test_mobile_sam(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _install(monkeypatch, "mobile_sam", SamPredictor=segment_anything.SamPredictor)
    assert np.array_equal(_masks(model, multimask=False)[0], _masks(models.small_sam(), multimask=False)[0])


def test_tiny_sam_always_returns_three_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"SamPredictor": _TinyPredictor, "SamHierarchicalMaskGenerator": _HierarchicalGenerator}
    model = _install(monkeypatch, "tinysam", **members)
    expected, _ = _masks(models.small_sam(), multimask=True)
    assert predictor_for(model).outputs == ("multimask",)
    assert np.array_equal(_masks(model, multimask=False)[0], expected)
    masks, _ = predictor_for(models.confident(model)).everything(_IMAGE, 2)
    assert len(masks) > 0


class _EfficientSam(nn.Module):
    """Returns the box around the points of a prompt as its mask."""

    decoder_max_num_input_points = 6

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Identity()
        self.register_buffer("pixel_mean", torch.zeros(1, 3, 1, 1))

    def get_image_embeddings(self, images: Tensor) -> Tensor:
        assert images.shape == (1, 3, 90, 140)
        assert images.dtype == torch.float32
        assert 0.9 < images.max() <= 1
        return self.image_encoder(images)

    def predict_masks(
        self,
        image_embeddings: Tensor,
        batched_points: Tensor,
        batched_point_labels: Tensor,
        multimask_output: bool,
        input_h: int,
        input_w: int,
        output_h: int = -1,
        output_w: int = -1,
    ) -> tuple[Tensor, Tensor]:
        points, labels = batched_points[0, 0], batched_point_labels[0, 0]
        assert (input_h, input_w) == (output_h, output_w) == (90, 140)
        assert labels.tolist() == [1, 2, 3]
        low, high = points.amin(0).int(), points.amax(0).int()
        logits = -torch.ones(1, 1, 3 if multimask_output else 1, 90, 140)
        logits[..., low[1] : high[1], low[0] : high[0]] = 1
        return logits, torch.linspace(0.5, 0.9, logits.shape[2])[None, None]


def _efficient_sam(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setitem(sys.modules, "efficient_sam", ModuleType("efficient_sam"))
    return type("EfficientSam", (_EfficientSam,), {"__module__": "efficient_sam.efficient_sam"})()


@torch.no_grad()
def test_efficient_sam(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = predictor_for(_efficient_sam(monkeypatch))
    predictor.set_image(_IMAGE)
    masks, scores = predictor.predict(Prompt(((40, 30),), (), (10, 20, 90, 80)), multimask=True)
    assert masks.shape == (3, 90, 140)
    assert masks[:, 20:80, 10:90].all()
    assert masks.sum() == 3 * 60 * 80
    assert scores.tolist() == pytest.approx([0.5, 0.7, 0.9])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(((1, 1),), ((2, 2),)), "EfficientSAM cannot use points outside the object; leave them out"),
        (Prompt(((1, 1),) * 7), "7 points were given, but EfficientSAM takes 6 (a box counts as two)"),
        (Prompt(((1, 1),) * 5, (), (0, 0, 9, 9)), "7 points were given, but EfficientSAM takes 6"),
    ],
)
def test_efficient_sam_refuses_prompts_that_it_cannot_use(
    monkeypatch: pytest.MonkeyPatch, prompt: Prompt, message: str
) -> None:
    predictor = predictor_for(_efficient_sam(monkeypatch))
    predictor.set_image(_IMAGE)
    with pytest.raises(PredictionError) as error:
        predictor.predict(prompt, multimask=False)
    assert message in str(error.value)
    with pytest.raises(PredictionError, match="no mask generator; give points or boxes"):
        predictor.everything(_IMAGE, 32)
