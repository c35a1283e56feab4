"""Models whose code only a repository has: stand-ins with their signatures, computing by `segment_anything` and `sam2`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import segment_anything
import torch
from torch import Tensor, nn
from torch.nn import functional

import bhk
from bhk.pictures.prompts import Prompt
from bhk.sam.lite_med_sam import LiteMedSam
from bhk.sam.prediction.medical import _area_weights, _nearest
from bhk.sam.prediction.predictor import PredictionError, predictor_for
from sam import models

_IMAGE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
_BOX = (10.5, 20.0, 90.0, 80.0)
_POINTS = Prompt(((40, 30),), ((80, 80),))


def _of_class(model: nn.Module, name: str) -> Any:
    """Return a model as one of another class, by its full name."""
    module, _, kind = name.rpartition(".")
    model.__class__ = type(kind, (type(model),), {"__module__": module})
    return model


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(name: str, **members: Any) -> None:
        found = ModuleType(name)
        found.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, found)

    return put


@pytest.mark.parametrize("package", ["repvit_sam", "mobilesamv2"])
def test_copies_of_segment_anything(module: Callable[..., None], package: str) -> None:
    module(package, SamPredictor=segment_anything.SamPredictor)
    model = _of_class(models.small_sam(), f"{package}.modeling.sam.Sam")
    expected = bhk.segment(models.small_sam(), _IMAGE, boxes=[_BOX])
    assert np.array_equal(bhk.segment(model, _IMAGE, boxes=[_BOX]).masks, expected.masks)


class _EfficientVitPredictor(segment_anything.SamPredictor):  # type: ignore[misc]
    """Takes no size with coordinates of boxes, and has no length to scale to."""

    @property
    def transform(self) -> Any:
        return self

    @transform.setter
    def transform(self, scaling: Any) -> None:
        self.scaling = scaling

    def apply_image(self, image: Any) -> Any:
        return self.scaling.apply_image(image)

    def apply_coords_torch(self, coords: Tensor, im_size: Any = None) -> Tensor:
        return self.scaling.apply_coords_torch(coords, self.original_size)  # type: ignore[no-any-return]


def test_efficientvit_sam_has_names_of_its_own(module: Callable[..., None]) -> None:
    module("efficientvit")
    generator = segment_anything.SamAutomaticMaskGenerator
    module(
        "efficientvit.models.efficientvit.sam",
        EfficientViTSamPredictor=_EfficientVitPredictor,
        EfficientViTSamAutomaticMaskGenerator=generator,
    )
    model = _of_class(models.confident(models.small_sam()), "efficientvit.models.efficientvit.sam.EfficientViTSam")
    model.image_size = (128, 64)
    assert predictor_for(model).side == 64
    plain = models.confident(models.small_sam())
    for question in ({"points": [(40, 30)], "boxes": [_BOX]}, {"everything": True, "points_per_side": 2}):
        found, expected = (bhk.segment(each, _IMAGE, **question) for each in (model, plain))
        assert len(found.masks) > 0
        assert np.array_equal(found.masks, expected.masks)


class _RobustDecoder(nn.Module):
    """Answers with SAM's masks where it is told to be clear, else with those of features of the first layer."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, *, encoder_features: Tensor, clear: bool = True, **arguments: Any) -> tuple[Any, ...]:
        assert encoder_features.shape == (1, 1, 8, 8, 64)
        masks, scores = self.decoder(**arguments)
        return masks if clear else masks - encoder_features.mean(), scores, None, None


class _RobustEncoder(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.img_size = encoder, models.SIZE

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.encoder(pixels), [torch.full((1, 8, 8, 64), 0.01)]


def test_robust_sam_answers_with_its_robust_mask(module: Callable[..., None]) -> None:
    module("robust_segment_anything", SamPredictor=segment_anything.SamPredictor)
    model: Any = models.small_sam()
    transform = segment_anything.utils.transforms.ResizeLongestSide(models.SIZE)
    pixels = transform.apply_image_torch(torch.tensor(_IMAGE).permute(2, 0, 1)[None].float())
    asked = {"image": pixels[0], "original_size": (90, 140)}
    asked["boxes"] = transform.apply_boxes_torch(torch.tensor([_BOX]), (90, 140))
    model.mask_threshold = 0.01
    expected = model([asked], multimask_output=False)[0]["masks"][0].numpy()
    del model.mask_threshold
    model.image_encoder, model.mask_decoder = _RobustEncoder(model.image_encoder), _RobustDecoder(model.mask_decoder)
    model = _of_class(model, "robust_segment_anything.modeling.sam.Sam")
    found = bhk.segment(model, _IMAGE, boxes=[_BOX])
    assert np.array_equal(found.masks, expected)
    assert bhk.segment(model, _IMAGE, points=[(40, 30)], multimask=True).output == "single"


def test_sam_med2d_stretches_pictures_to_a_square() -> None:
    model = _of_class(models.small_sam(), "segment_anything.modeling.sam_model.Sam")
    found = bhk.segment(model, _IMAGE, points=_POINTS.points, not_points=_POINTS.not_points, multimask=True)
    rows, columns = np.arange(128) * 90 // 128, np.arange(128) * 140 // 128
    square = np.ascontiguousarray(_IMAGE[rows][:, columns])
    predictor = segment_anything.SamPredictor(models.small_sam())
    predictor.set_image(square)
    points = np.array(_POINTS.points + _POINTS.not_points) * (128 / 140, 128 / 90)
    logits, scores, _ = predictor.predict(points, np.array([1, 0]), return_logits=True)
    expected = functional.interpolate(torch.tensor(logits)[None], (90, 140), mode="bilinear")[0] > 0
    assert np.array_equal(found.masks, expected.numpy())
    assert found.scores == pytest.approx(scores.tolist())
    assert bhk.segment(model, _IMAGE, boxes=[_BOX]).output == "multimask"
    with pytest.raises(PredictionError, match="SAM-Med2D has no mask generator"):
        bhk.segment(model, _IMAGE, everything=True)


def test_lite_medsam_answers_boxes_of_whole_pixels() -> None:
    sam = models.small_sam()
    model = LiteMedSam(sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)  # type: ignore[arg-type]
    image = np.kron(_IMAGE[:64], np.ones((2, 2, 1), np.uint8))[:, :256]
    found = bhk.segment(model, image, boxes=[(21, 40, 180.9, 90)])
    values = torch.tensor(_IMAGE[:64, :128]).permute(2, 0, 1)[None].float()
    values = functional.pad((values - values.min()) / (values.max() - values.min()), (0, 0, 0, 64))
    sparse, dense = sam.prompt_encoder(points=None, boxes=torch.tensor([[10.0, 20, 90, 45]]), masks=None)  # type: ignore[operator]
    with torch.no_grad():
        logits, _ = sam.mask_decoder(  # type: ignore[operator]
            image_embeddings=sam.image_encoder(values),  # type: ignore[operator]
            image_pe=sam.prompt_encoder.get_dense_pe(),  # type: ignore[operator, union-attr]
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    expected = functional.interpolate(logits[..., :64, :128], (128, 256), mode="bilinear")[0] > 0
    assert np.array_equal(found.masks, expected.numpy())
    with pytest.raises(PredictionError, match="LiteMedSAM finds the object in a box and takes no points"):
        bhk.segment(model, image, points=[(40, 30)])


def _med_sam() -> tuple[Any, Any]:
    """Return a small model that is asked as MedSAM is, and its predictor."""
    model: Any = models.small_sam()
    model.prepared_as = "medsam"
    return model, predictor_for(model)


def test_medsam_stretches_pictures_and_their_values() -> None:
    model, _ = _med_sam()
    image = np.kron(_IMAGE[:64, :128], np.ones((2, 1, 1), np.uint8))  # as large as the encoder's input
    found = bhk.segment(model, image, boxes=[_BOX])
    low, high = int(image.min()), int(image.max())
    values = (torch.tensor(image).permute(2, 0, 1)[None].double() - low) / (high - low)
    sparse, dense = model.prompt_encoder(points=None, boxes=torch.tensor([_BOX]), masks=None)
    with torch.no_grad():
        logits, _ = model.mask_decoder(
            image_embeddings=model.image_encoder(values.float()),
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
    expected = functional.interpolate(logits.sigmoid(), (128, 128), mode="bilinear")[0] > 0.5
    assert np.array_equal(found.masks, expected.numpy())
    for asked in ({"points": [(40, 30)]}, {"points": [(40, 30)], "boxes": [_BOX]}):
        with pytest.raises(PredictionError, match="MedSAM finds the object in a box and takes no points"):
            bhk.segment(model, image, **asked)


@pytest.mark.parametrize("shape", [(90, 140), (300, 200)])
def test_medsam_scales_by_cubic_splines(shape: tuple[int, int]) -> None:
    """A slow wave, which splines follow closely, is seen at the same places of a picture of another size."""

    def wave(height: int, width: int) -> Any:
        rows, columns = ((np.arange(size) + 0.5) / size for size in (height, width))
        values = 128 + 100 * np.cos(2 * np.pi * rows)[:, None] * np.cos(np.pi * columns)[None]
        return np.repeat(values[..., None], 3, axis=2)

    _, predictor = _med_sam()
    predictor._size = shape
    found = predictor._input(np.rint(wave(*shape)).astype(np.uint8)).permute(1, 2, 0).numpy()
    expected = (wave(128, 128) - 28) / 200
    assert np.abs(found - expected).max() < 0.02
    assert (found.min(), found.max()) == (0, 1)


def test_ft_sam_is_asked_like_sam_med2d() -> None:
    model: Any = models.small_sam()
    model.prepared_as = "ft_sam"
    other = _of_class(models.small_sam(), "segment_anything.modeling.sam_model.Sam")
    found, expected = (bhk.segment(each, _IMAGE, boxes=[_BOX]) for each in (model, other))
    assert (found.output, found.scores) == ("multimask", expected.scores)
    assert np.array_equal(found.masks, expected.masks)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (4, 2, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]),
        (3, 2, [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]),
        (2, 3, [[1, 0], [0.5, 0.5], [0, 1]]),
        (2, 4, [[1, 0], [1, 0], [0, 1], [0, 1]]),
    ],
)
def test_areas_of_pixels(old: int, new: int, expected: list[list[float]]) -> None:
    assert _area_weights(old, new) == pytest.approx(np.array(expected))


def test_nearest_pixels() -> None:
    assert _nearest(5, 4).tolist() == [0, 1, 2, 3]
    assert _nearest(2, 5).tolist() == [0, 0, 0, 1, 1]


def test_relatives_of_sam2(module: Callable[..., None]) -> None:
    from sam2 import automatic_mask_generator, sam2_image_predictor

    module("efficient_track_anything")
    module(
        "efficient_track_anything.efficienttam_image_predictor",
        EfficientTAMImagePredictor=sam2_image_predictor.SAM2ImagePredictor,
    )
    module(
        "efficient_track_anything.automatic_mask_generator",
        EfficientTAMAutomaticMaskGenerator=automatic_mask_generator.SAM2AutomaticMaskGenerator,
    )
    plain = models.confident(models.small_sam2())
    for place, kind in (("efficient_track_anything.x", "EfficientTAMBase"), ("sam2.x", "SAM2HQBase")):
        model = models.confident(models.small_sam2())
        model.__class__ = type(kind, (nn.Module,), {**vars(type(model)), "__module__": place})
        for question in ({"boxes": [_BOX]}, {"everything": True, "points_per_side": 2}):
            found, expected = (bhk.segment(each, _IMAGE, **question) for each in (model, plain))
            assert len(found.masks) > 0
            assert np.array_equal(found.masks, expected.masks)
