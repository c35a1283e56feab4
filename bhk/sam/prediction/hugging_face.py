"""Predicting with models of `transformers`: SamModel, SamHQModel, Sam2Model, EdgeTamModel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import BOTH, Masks, check_proportions, grid_batch, to_masks


class HuggingFacePredictor:
    """Calls the model itself, with the image processor of transformers before and after it.

    The image processor is made from the model's configuration, so nothing is downloaded.
    """

    outputs, reads_points, reads_text = BOTH, True, False

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model: Any = model
        self._package = package
        self._processor = _image_processor(self._model.config, package)
        self._inputs: dict[str, Any] = {}
        self._embeddings: dict[str, Any] = {}

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self._model.vision_encoder  # type: ignore[no-any-return]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks."""
        return self._model.mask_decoder  # type: ignore[no-any-return]

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels."""
        return self._processor.size.longest_edge or self._processor.size.height  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        self._check(image)
        self._inputs = dict(self._processor(images=image, input_data_format="channels_last", return_tensors="pt"))
        found = self._model.get_image_embeddings(self._inputs.pop("pixel_values").to(self._model.device))
        if isinstance(found, tuple):  # from SamHQModel
            self._embeddings = {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
        else:
            self._embeddings = {"image_embeddings": found}

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object."""
        arguments: dict[str, Tensor] = {}
        if points := prompt.points + prompt.not_points:
            labels = [1] * len(prompt.points) + [0] * len(prompt.not_points)
            arguments["input_points"] = self._scaled(points)[None, None]
            arguments["input_labels"] = torch.tensor([[labels]], device=self._model.device)
        if prompt.box is not None:
            corners = np.reshape(prompt.box, (2, 2)).astype(np.float32)  # as the processors round them
            arguments["input_boxes"] = self._scaled(corners).reshape(1, 1, 4)
        found = self._model(**arguments, **self._embeddings, multimask_output=multimask)
        masks = self._processor.post_process_masks([found.pred_masks[0]], **self._inputs)
        return to_masks(masks[0][0], found.iou_scores[0, 0])

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds."""
        self._check(image)
        from PIL import Image

        generate = self._package.MaskGenerationPipeline(
            model=self._model, image_processor=self._processor, device=self._model.device
        )
        batch = grid_batch(image)
        found = generate(Image.fromarray(image), points_per_crop=points_per_side, points_per_batch=batch)
        masks = np.array([np.asarray(mask) for mask in found["masks"]], dtype=bool).reshape(-1, *image.shape[:2])
        return masks, found["scores"].float().cpu().numpy()

    def _check(self, image: Rgb) -> None:
        if self._processor.size.longest_edge:  # SAM keeps the proportions, SAM2 does not
            check_proportions(image, self._processor.size.longest_edge)

    def _scaled(self, points: Any) -> Tensor:
        """Return points (x, y) of the picture in pixels of the encoder's input, (points, 2), rounded as by its processor.

        SAM multiplies them by frequencies of up to hundreds, which makes a rounding error of float32 visible in masks.
        """
        height, width = self._inputs["original_sizes"][0].tolist()
        if "reshaped_input_sizes" in self._inputs:
            new_height, new_width = self._inputs["reshaped_input_sizes"][0].tolist()
            lacks_float64 = self._model.device.type in ("mps", "xpu")
            dtype = torch.float32 if lacks_float64 else torch.float64
        else:
            new_height, new_width, dtype = self._processor.size.height, self._processor.size.width, torch.float32
        scale = torch.tensor([new_width / width, new_height / height], dtype=dtype)
        return (torch.tensor(points, dtype=dtype) * scale).to(self._model.device)


def _image_processor(config: Any, transformers: ModuleType) -> Any:
    """Return the image processor for a model's configuration."""
    side = config.prompt_encoder_config.image_size
    square = {"height": side, "width": side}
    if config.model_type in ("sam2", "edgetam"):
        return transformers.Sam2ImageProcessor(size=square)
    if config.model_type == "sam3_tracker":
        return transformers.Sam3ImageProcessor(size=square)
    return transformers.SamImageProcessor(size={"longest_edge": side}, pad_size=square)
