"""Predicting with models of `segment_anything` and the packages derived from it, such as SAM-HQ, MobileSAM and EdgeSAM."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.predictor import BOTH, Masks, check_proportions, from_records, grid_batch, to_masks


class SamPredictor:
    """Uses the `SamPredictor` and the `SamAutomaticMaskGenerator` of the model's package."""

    outputs, reads_points, reads_text = BOTH, True, False

    def __init__(self, model: nn.Module, package: ModuleType | SimpleNamespace) -> None:
        self._model = model
        self._package = package
        self._predictor = package.SamPredictor(model)

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self._model.image_encoder  # type: ignore[return-value]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks."""
        return self._model.mask_decoder  # type: ignore[return-value]

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels."""
        return self._predictor.transform.target_length  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        check_proportions(image, self.side)
        self._predictor.set_image(image)

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object."""
        coordinates = torch.tensor([prompt.points + prompt.not_points], dtype=torch.float32)
        labels = torch.tensor([[1] * len(prompt.points) + [0] * len(prompt.not_points)], dtype=torch.int)
        scaled = box = None
        to_input, device = self._predictor.transform, self._predictor.device
        if labels.numel():
            scaled = to_input.apply_coords_torch(coordinates, self._predictor.original_size).to(device)
        if prompt.box is not None:
            corners = torch.tensor([prompt.box], dtype=torch.float32).view(1, 2, 2)
            box = to_input.apply_coords_torch(corners, self._predictor.original_size).view(1, 4).to(device)
        masks, scores = self._decode(scaled, labels.to(device) if scaled is not None else None, box, multimask)
        return to_masks(masks[0], scores[0])

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds."""
        check_proportions(image, self.side)
        generator = self._package.SamAutomaticMaskGenerator(
            self._model, points_per_side=points_per_side, points_per_batch=grid_batch(image)
        )
        _with_float_outputs(generator.predictor)
        return from_records(generator.generate(image), image)

    def _decode(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Return masks (1, n, height, width) and scores (1, n) for prompts in pixels of the encoder's input."""
        masks, scores, _ = self._predictor.predict_torch(points, labels, boxes, multimask_output=multimask)
        return masks, scores


class EdgeSamPredictor(SamPredictor):
    """EdgeSAM, whose predictor takes the features and the number of masks."""

    def _decode(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        masks, scores, _ = self._predictor.predict_torch(
            self._predictor.features,
            points,
            labels,
            boxes,
            num_multimask_outputs=3 if multimask else 1,
            use_stability_score=False,
        )
        return masks, scores


class TinySamPredictor(SamPredictor):
    """TinySAM, which always returns three masks, and has its own mask generator."""

    outputs = ("multimask",)

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds."""
        check_proportions(image, self.side)
        generator = self._package.SamHierarchicalMaskGenerator(
            self._model, points_per_side=points_per_side, points_per_batch=grid_batch(image)
        )
        _with_float_outputs(generator.predictor)
        return from_records(generator.hierarchical_generate(image), image)

    def _decode(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        masks, scores, _ = self._predictor.predict_torch(points, labels, boxes)
        return masks, scores


class EfficientVitSamPredictor(SamPredictor):
    """EfficientViT-SAM, which sees smaller pictures than those in whose pixels it takes prompts."""

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        module = importlib.import_module(f"{package.__name__}.models.efficientvit.sam")
        kinds = {name: getattr(module, f"EfficientViT{name}") for name in ("SamPredictor", "SamAutomaticMaskGenerator")}
        super().__init__(model, SimpleNamespace(**kinds))

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels."""
        model: Any = self._model
        return model.image_size[1]  # type: ignore[no-any-return]


class RobustSamPredictor(SamPredictor):
    """RobustSAM, which answers as its `Sam.predict` does: with the single mask of the tokens that make it robust.

    The `SamPredictor` and the mask generator of its package use the tokens of SAM. Masks of everything are those of that
    generator.
    """

    outputs = ("single",)

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        check_proportions(image, self.side)
        pixels = torch.from_numpy(image).to(self._predictor.device).permute(2, 0, 1)[None]
        scaled = self._predictor.transform.apply_image_torch(pixels.float())
        self._predictor.set_torch_image(scaled, image.shape[:2])

    def _decode(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        model: Any = self._model
        embedding, (first, *_) = self._predictor.features
        sparse, dense = model.prompt_encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=None
        )
        logits, scores, *_ = model.mask_decoder(
            image_embeddings=embedding,
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            encoder_features=first[None],
            clear=False,
        )
        sizes = self._predictor.input_size, self._predictor.original_size
        return model.postprocess_masks(logits, *sizes) > model.mask_threshold, scores


def _with_float_outputs(predictor: Any) -> None:
    """Make a predictor return float32 logits and scores. The generators convert scores to numpy, which has no bfloat16."""
    predict = predictor.predict_torch
    predictor.predict_torch = lambda *args, **options: tuple(map(Tensor.float, predict(*args, **options)))
