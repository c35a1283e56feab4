"""Predicting with `efficient_sam`. The package has no predictor: the model takes picture and prompts itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import BOTH, Masks, PredictionError, to_masks


class EfficientSamPredictor:
    """Calls the two halves of the model, `get_image_embeddings` and `predict_masks`."""

    outputs, reads_points, reads_text = BOTH, True, False

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model: Any = model
        self._embedding: Any = None
        self._size = (0, 0)

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self._model.image_encoder  # type: ignore[no-any-return]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks."""
        return self._model.mask_decoder  # type: ignore[no-any-return]

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels."""
        return self._model.image_encoder.img_size  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        pixels = torch.from_numpy(image).to(self._model.pixel_mean.device).permute(2, 0, 1)[None]
        self._size = image.shape[:2]
        self._embedding = self._model.get_image_embeddings(pixels / 255)

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object.

        Raises:
            PredictionError: the model cannot take these prompts: points outside the object, or more than six points.
        """
        limit = self._model.decoder_max_num_input_points
        points, labels = list(prompt.points), [1] * len(prompt.points)
        if prompt.box is not None:  # this model takes a box as two points, labelled 2 and 3
            points, labels = [*points, prompt.box[:2], prompt.box[2:]], [*labels, 2, 3]
        if prompt.not_points:
            raise PredictionError("EfficientSAM cannot use points outside the object; leave them out")
        if len(points) > limit:
            raise PredictionError(
                f"{len(points)} points were given, but EfficientSAM takes {limit} (a box counts as two)"
            )
        height, width = self._size
        device = self._embedding.device
        masks, scores = self._model.predict_masks(
            self._embedding,
            torch.tensor([[points]], dtype=torch.float32, device=device),
            torch.tensor([[labels]], device=device),
            multimask_output=multimask,
            input_h=height,
            input_w=width,
            output_h=height,
            output_w=width,
        )
        return to_masks(masks[0, 0] >= 0, scores[0, 0])

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Raise an error, because the package has no mask generator.

        Raises:
            PredictionError: always.
        """
        raise PredictionError("EfficientSAM has no mask generator; give points or boxes instead of everything")
