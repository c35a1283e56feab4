"""Predicting with models for medical pictures whose authors prepare pictures in scripts: SAM-Med2D, LiteMedSAM, MedSAM."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bhk.base.packages import import_package
from bhk.nn.device import device_of
from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Box, Prompt
from bhk.sam.packages import SCIPY
from bhk.sam.prediction.predictor import Masks, Output, PredictionError, check_proportions, to_masks


class _PartsPredictor:
    """Calls the parts of a model. What differs is how a picture becomes the encoder's input, and masks those of the picture."""

    outputs: tuple[Output, ...]
    reads_points, reads_text = True, False
    only_boxes = False
    title: str
    threshold = 0.0  # of what `_content` returns, on the object

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model = cast("Any", model)
        self._device = device_of(model)
        self._size = (0, 0)
        self._features: Any = None

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
        """Side of the encoder's input in pixels."""
        return self._model.image_encoder.img_size  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        self._size = image.shape[:2]
        self._features = self._model.image_encoder(self._input(image)[None])

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object.

        Raises:
            PredictionError: the model cannot take these prompts.
        """
        prompts = self._model.prompt_encoder
        points, box = self._prompts(prompt)
        labels = torch.tensor([[1] * len(prompt.points) + [0] * len(prompt.not_points)], device=self._device)
        sparse, dense = prompts(points=None if points is None else (points, labels), boxes=box, masks=None)
        logits, scores = self._model.mask_decoder(
            image_embeddings=self._features,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output="multimask" in self.outputs,
        )
        masks = functional.interpolate(self._content(logits), self._size, mode="bilinear", align_corners=False)
        return to_masks(masks[0] > self.threshold, scores[0])

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Raise an error, because the authors have no mask generator for the model.

        Raises:
            PredictionError: always.
        """
        raise PredictionError(f"{self.title} has no mask generator; give prompts instead of everything")

    def _input(self, image: Rgb) -> Tensor:
        """Return a picture as the encoder takes it: float32 (3, side, side)."""
        raise NotImplementedError

    def _prompts(self, prompt: Prompt) -> tuple[Tensor | None, Tensor | None]:
        """Return points (1, n, 2) and a box (1, 4) in pixels of the encoder's input."""
        raise NotImplementedError

    def _content(self, logits: Tensor) -> Tensor:
        """Return the part of the decoder's masks (1, n, height, width) that shows the picture."""
        raise NotImplementedError


class SamMed2dPredictor(_PartsPredictor):
    """SAM-Med2D: the picture is stretched to a square, by the nearest pixels, and of three masks the surest counts.

    So does the `SammedPredictor` of its repository, which needs further packages; the repository's `SamPredictor` and mask
    generator are those of SAM, and prepare pictures in another way than the model was trained with.
    """

    outputs = ("multimask",)
    title = "SAM-Med2D"

    def _input(self, image: Rgb) -> Tensor:
        rows, columns = (_nearest(size, self.side) for size in image.shape[:2])
        pixels = torch.from_numpy(image[rows][:, columns]).to(self._device).permute(2, 0, 1)
        return (pixels - self._model.pixel_mean) / self._model.pixel_std  # type: ignore[no-any-return]

    def _prompts(self, prompt: Prompt) -> tuple[Tensor | None, Tensor | None]:
        height, width = self._size
        scale = np.array([self.side / width, self.side / height])
        points = np.array([prompt.points + prompt.not_points]) * scale if prompt.points + prompt.not_points else None
        box = None if prompt.box is None else np.reshape(prompt.box, (2, 2)) * scale
        return self._tensor(points), self._tensor(None if box is None else box.reshape(1, 4))

    def _tensor(self, values: NDArray[np.float64] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(values).to(self._device, torch.float32)

    def _content(self, logits: Tensor) -> Tensor:
        return functional.interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)


class FtSamPredictor(SamMed2dPredictor):
    """FT-SAM: as SAM-Med2D, by the same repository."""

    title = "FT-SAM"


class LiteMedSamPredictor(_PartsPredictor):
    """LiteMedSAM: the long side is scaled to 256 pixels by areas, values are stretched to 0 … 1, and boxes are whole pixels."""

    outputs, only_boxes = ("single",), True
    title = "LiteMedSAM"

    def _input(self, image: Rgb) -> Tensor:
        check_proportions(image, self.side)
        values = _full_range(_by_areas(image, *self._scaled_size()))
        height, width = values.shape[1:]
        return functional.pad(values, (0, self.side - width, 0, self.side - height)).to(self._device)

    def _prompts(self, prompt: Prompt) -> tuple[Tensor | None, Tensor | None]:
        box = [int(place * self.side / max(self._size)) for place in _box_alone(prompt, self.title)]
        return None, torch.tensor([box], dtype=torch.float32, device=self._device)

    def _content(self, logits: Tensor) -> Tensor:
        height, width = self._scaled_size()
        return logits[..., :height, :width]

    def _scaled_size(self) -> tuple[int, int]:
        height, width = (int(size * self.side / max(self._size) + 0.5) for size in self._size)
        return height, width


class MedSamPredictor(_PartsPredictor):
    """MedSAM: the picture is stretched to a square by cubic splines, as in scikit-image, and its values to 0 … 1."""

    outputs, only_boxes = ("single",), True
    title = "MedSAM"
    threshold = 0.5

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        super().__init__(model, package)
        import_package((SCIPY,))
        self._filters = importlib.import_module("scipy.ndimage")

    def _input(self, image: Rgb) -> Tensor:
        reduced = np.array([*image.shape[:2], self.side]) / self.side  # in each direction, and not in colours
        blurred = self._filters.gaussian_filter(
            image.astype(np.float64), np.maximum(0, (reduced - 1) / 2), mode="mirror"
        )
        scaled = self._filters.zoom(blurred, 1 / reduced, order=3, mode="mirror", grid_mode=True)
        return _full_range(np.clip(scaled, image.min(), image.max()).astype(np.uint8)).to(self._device)

    def _prompts(self, prompt: Prompt) -> tuple[Tensor | None, Tensor | None]:
        height, width = self._size
        box = np.array(_box_alone(prompt, self.title)) / np.array([width, height, width, height]) * self.side
        return None, torch.tensor(box[None], dtype=torch.float32, device=self._device)

    def _content(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def _box_alone(prompt: Prompt, title: str) -> Box:
    if prompt.box is None or prompt.points or prompt.not_points:
        raise PredictionError(f"{title} finds the object in a box and takes no points; give a box alone")
    return prompt.box


def _full_range(values: NDArray[Any]) -> Tensor:
    """Return a picture (height, width, 3) with its values stretched to 0 … 1, float32 (3, height, width)."""
    low, high = values.min(), values.max()
    return torch.from_numpy((values - low) / max(high - low, 1e-8)).float().permute(2, 0, 1)


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Return which of `old` pixels comes to each of `new`, as in OpenCV: the one at its upper left corner."""
    scale = 1 / (new / old)
    found: NDArray[np.int64] = np.minimum(np.floor(np.arange(new) * scale), old - 1).astype(np.int64)
    return found


def _by_areas(image: Rgb, height: int, width: int) -> NDArray[np.float64]:
    """Return a picture of another size with whole values, each the mean of the area that it covers, as in OpenCV."""
    rows, columns = _area_weights(image.shape[0], height), _area_weights(image.shape[1], width)
    found: NDArray[np.float64] = np.rint(
        np.einsum("yi,ijc,xj->yxc", rows, image.astype(np.float64), columns, optimize=True)
    )
    return found


def _area_weights(old: int, new: int) -> NDArray[np.float64]:
    """Return how much of each of `old` pixels goes into each of `new`: (new, old), rows with a sum of 1."""
    scale, places = old / new, np.arange(new)
    if new <= old:
        start, edges = places[:, None] * scale, np.arange(old)
        overlap: NDArray[np.float64] = np.minimum(start + scale, edges + 1) - np.maximum(start, edges)
        return np.maximum(overlap, 0) / scale
    first = np.floor(places * scale).astype(np.int64)  # enlarged, only pixels across an edge are a mixture
    second = np.clip(places + 1 - (first + 1) / scale, 0, None)
    second -= np.floor(second)
    weights = np.zeros((new, old))
    weights[places, first] = 1 - second
    weights[places, np.minimum(first + 1, old - 1)] += second
    return weights
