from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bhk.base.packages import MissingPackageError
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import GRID_BATCH, PredictionError, Predictor, grid_batch, predictor_for
from sam import models

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
_PROMPTS = [
    Prompt(((40, 30),)),
    Prompt(((40, 30), (50.5, 40)), ((3, 3),)),
    Prompt(box=(10, 10, 60, 70)),
    Prompt(((40, 30),), (), (10, 10, 60, 70)),
    Prompt((), ((20, 20),), (10, 10, 60, 70)),
]
_KINDS = [
    models.small_sam,
    models.small_sam_hq,
    models.small_sam2,
    models.small_hf_sam,
    models.small_hf_sam_hq,
    models.small_hf_sam2,
]


@pytest.fixture(scope="module", params=_KINDS, ids=lambda kind: kind.__name__)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    predictor = predictor_for(request.param())
    with torch.no_grad():
        predictor.set_image(_IMAGE)
    return predictor


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("prompt", _PROMPTS, ids=["point", "points", "box", "point-box", "not-point-box"])
def test_masks_have_the_size_of_the_picture(predictor: Predictor, prompt: Prompt, multimask: bool) -> None:
    masks, scores = predictor.predict(prompt, multimask=multimask)
    hq = type(predictor._model).__module__.startswith("segment_anything_hq")  # type: ignore[attr-defined]
    count = 3 if multimask and not hq else 1  # segment_anything_hq joins the best of three with its own
    assert (masks.shape, masks.dtype) == ((count, 90, 140), np.bool_)
    assert (scores.shape, scores.dtype) == ((count,), np.float32)
    assert 0 < masks.mean() < 1


@torch.no_grad()
def test_prompts_matter(predictor: Predictor) -> None:
    found = [predictor.predict(prompt, multimask=False)[0] for prompt in _PROMPTS]
    assert len({masks.tobytes() for masks in found}) == len(_PROMPTS)


@torch.no_grad()
@pytest.mark.parametrize("kind", _KINDS)
def test_the_generators_of_the_packages_find_everything(kind: Callable[[], nn.Module]) -> None:
    predictor = predictor_for(models.confident(kind()))
    masks, scores = predictor.everything(_IMAGE, 3)
    assert len(masks) > 0
    assert masks.shape == (len(masks), 90, 140)
    assert masks.any(axis=(1, 2)).all()
    assert (scores >= 0.8).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", _KINDS)
def test_everything_may_find_nothing(kind: Callable[[], nn.Module]) -> None:
    masks, scores = predictor_for(kind()).everything(_IMAGE, 2)
    assert (masks.shape, masks.dtype, scores.shape) == ((0, 90, 140), np.bool_, (0,))


@torch.no_grad()
@pytest.mark.parametrize("prompt", _PROMPTS)
def test_sam_gives_the_masks_of_its_predictor(prompt: Prompt) -> None:
    from segment_anything import SamPredictor

    model = models.small_sam()
    reference = SamPredictor(model)
    reference.set_image(_IMAGE)
    points = prompt.points + prompt.not_points
    masks, scores, _ = reference.predict(
        point_coords=np.array(points) if points else None,
        point_labels=np.array([1] * len(prompt.points) + [0] * len(prompt.not_points)) if points else None,
        box=np.array(prompt.box) if prompt.box else None,
    )
    predictor = predictor_for(model)
    predictor.set_image(_IMAGE)
    found, found_scores = predictor.predict(prompt, multimask=True)
    assert np.array_equal(found, masks)
    assert np.array_equal(found_scores, scores)


@torch.no_grad()
@pytest.mark.parametrize("prompt", _PROMPTS)
@pytest.mark.parametrize("kind", [models.small_hf_sam, models.small_hf_sam_hq, models.small_hf_sam2])
def test_transformers_give_the_masks_of_their_processors(kind: Callable[[], nn.Module], prompt: Prompt) -> None:
    import transformers

    model: Any = kind()
    square = {"height": models.SIZE, "width": models.SIZE}
    processor: Any
    if kind is models.small_hf_sam2:
        processor = transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=square))
    else:
        images = transformers.SamImageProcessor(size={"longest_edge": models.SIZE}, pad_size=square)
        processor = (transformers.SamHQProcessor if "hq" in kind.__name__ else transformers.SamProcessor)(images)
    points = prompt.points + prompt.not_points
    inputs = processor(
        images=_IMAGE,
        input_points=[[list(map(list, points))]] if points else None,
        input_labels=[[[1] * len(prompt.points) + [0] * len(prompt.not_points)]] if points else None,
        input_boxes=[[list(prompt.box)]] if prompt.box else None,
        return_tensors="pt",
    )
    sizes = [inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
    outputs = model(**inputs, multimask_output=True)
    masks = processor.image_processor.post_process_masks(outputs.pred_masks, *sizes)[0][0].numpy()

    predictor = predictor_for(model)
    predictor.set_image(_IMAGE)
    found, scores = predictor.predict(prompt, multimask=True)
    assert np.array_equal(found, masks)
    assert np.array_equal(scores, outputs.iou_scores[0, 0].numpy())


@pytest.mark.parametrize("shape", [(64, 64), (200, 31), (31, 200), (300, 400)])
@pytest.mark.parametrize("size", [128, 256])
@torch.no_grad()
def test_pictures_and_encoders_of_any_size(shape: tuple[int, int], size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for kind in (models.small_sam, models.small_sam2):
        predictor = predictor_for(kind(size=size))
        predictor.set_image(image)
        assert predictor.predict(Prompt(((20, 20),)), multimask=False)[0].shape == (1, *shape)


@pytest.mark.parametrize("kind", _KINDS)
@torch.no_grad()
def test_long_pictures(kind: Callable[[], nn.Module]) -> None:
    predictor = predictor_for(kind())
    for shape in [(1, 1), (1, 255), (256, 1)]:
        predictor.set_image(np.zeros((*shape, 3), dtype=np.uint8))
        assert predictor.predict(Prompt(((0, 0),)), multimask=False)[0].shape == (1, *shape)
    if "sam2" not in kind.__name__:  # which does not keep the proportions
        for ask in (predictor.set_image, lambda image: predictor.everything(image, 2)):
            with pytest.raises(PredictionError, match="picture of 257 x 1 pixels is too narrow"):
                ask(np.zeros((1, 257, 3), dtype=np.uint8))


def test_other_modules_are_refused() -> None:
    sam: Any = models.small_sam()
    hf_sam: Any = models.small_hf_sam()
    for module in (nn.Linear(2, 2), nn.ModuleDict(), sam.image_encoder, hf_sam.vision_encoder):
        with pytest.raises(
            PredictionError, match=r"bhk cannot predict masks with .*; expected one of segment_anything\.Sam, "
        ):
            predictor_for(module)


def test_a_package_that_a_package_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.small_sam2()
    monkeypatch.setitem(sys.modules, "sam2.sam2_image_predictor", None)
    with pytest.raises(
        MissingPackageError, match=r"predicting masks with sam2 needs .*sam2_image_predictor.*; run: pip install"
    ):
        predictor_for(model)


def test_a_subclass_is_predicted_with_like_its_base_class() -> None:
    sam = models.small_sam()
    sam.__class__ = type("Mine", (type(sam),), {"__module__": "mine"})
    assert type(predictor_for(sam)) is type(predictor_for(models.small_sam()))


@pytest.mark.parametrize(
    ("size", "points"), [((100, 100), GRID_BATCH), ((1080, 1920), 43), ((3000, 4000), 7), ((20000, 20000), 1)]
)
def test_a_grid_fits_into_memory(size: tuple[int, int], points: int) -> None:
    assert grid_batch(np.broadcast_to(np.zeros(3, dtype=np.uint8), (*size, 3))) == points
