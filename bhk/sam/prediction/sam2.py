"""Predicting with models of `sam2` and the packages derived from it: HQ-SAM 2, EdgeTAM, EfficientTAM."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import BOTH, Masks, from_records, grid_batch

_STRIDES = (4, 8, 16)  # strides of the feature maps
# Package -> what the names of its predictor's module and classes start with.
_NAMES = {"sam2": ("sam2", "SAM2"), "efficient_track_anything": ("efficienttam", "EfficientTAM")}


class Sam2Predictor:
    """Uses the `SAM2ImagePredictor` and the `SAM2AutomaticMaskGenerator` of the package, whatever it calls them.

    Neither needs the package's CUDA extension, which only removes small holes and islands. That is off here, as by default.
    HQ-SAM 2 adds its own mask to those of SAM 2, as by default.
    """

    outputs, reads_points, reads_text = BOTH, True, False

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model = model
        self._package = package.__name__
        file, self._kind = _NAMES[self._package]
        module = importlib.import_module(f"{self._package}.{file}_image_predictor")
        self._predictor = self._of_size(getattr(module, f"{self._kind}ImagePredictor")(model))

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self._model.image_encoder  # type: ignore[return-value]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks."""
        return self._model.sam_mask_decoder  # type: ignore[return-value]

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels."""
        return self._model.image_size  # type: ignore[return-value]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        self._predictor.set_image(image)

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object."""
        points = prompt.points + prompt.not_points
        masks, scores, _ = self._predictor.predict(
            point_coords=np.array(points, dtype=np.float32) if points else None,
            point_labels=np.array([1] * len(prompt.points) + [0] * len(prompt.not_points)) if points else None,
            box=None if prompt.box is None else np.array(prompt.box, dtype=np.float32),
            multimask_output=multimask,
        )
        return masks.astype(bool), scores

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds."""
        module = importlib.import_module(f"{self._package}.automatic_mask_generator")
        generator = getattr(module, f"{self._kind}AutomaticMaskGenerator")(
            self._model, points_per_side=points_per_side, points_per_batch=grid_batch(image)
        )
        self._of_size(generator.predictor)
        return from_records(generator.generate(image), image)

    def _of_size(self, predictor: Any) -> Any:
        """Set the predictor's sizes of feature maps, which are hard-coded for 1024 pixels."""
        side: Any = self._model.image_size
        predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in _STRIDES]
        return predictor
