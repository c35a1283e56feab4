"""Predicting with Meta's own SAM 3, the class `Sam3Image` of its package `sam3`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.original_sam3 import WithoutGpu
from bhk.sam.prediction.predictor import BOTH, ONLY_TEXTS, THRESHOLD, Masks, PredictionError

_NO_GRID = "the package sam3 has no generator of masks; ask with points, boxes or a text"


class OriginalSam3Predictor:
    """Finds all objects that a text names, and with the tracker the object at points or in a box.

    The package's `Sam3Processor` stands around the model. It asks for a GPU here and there whatever the device.
    """

    outputs, reads_text = BOTH, True

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        module = importlib.import_module(f"{package.__name__}.model.sam3_image_processor")
        self._model: Any = model
        self._device: torch.device = next(model.parameters()).device
        self._processor = module.Sam3Processor(model, device=self._device, confidence_threshold=THRESHOLD)
        self._state: dict[str, Any] = {}
        self.reads_points = self._model.inst_interactive_predictor is not None

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self._model.backbone.vision_backbone.trunk  # type: ignore[no-any-return]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks: the tracker's for points and boxes, if it is there."""
        if not self.reads_points:
            return self._model.segmentation_head  # type: ignore[no-any-return]
        return self._model.inst_interactive_predictor.model.sam_mask_decoder  # type: ignore[no-any-return]

    @property
    def side(self) -> int:
        """Side of the encoder's input in pixels."""
        return self._processor.resolution  # type: ignore[no-any-return]

    @property
    def text_config(self) -> Any:
        """The sizes of the text encoder, by the names of transformers."""
        encoder = self._model.backbone.language_backbone.encoder
        size = encoder.vocab_size
        return SimpleNamespace(
            vocab_size=size,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            max_position_embeddings=encoder.context_length,
        )

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        with self._on_device():
            from PIL import Image  # slow to import, and not needed to convert

            self._state = self._processor.set_image(Image.fromarray(image))

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of all objects that a text names, the surest first, or of the one object at points and boxes.

        Raises:
            PredictionError: the model has no tracker, and the prompt no text.
            MissingTokenizerError: there is no vocabulary beside the model's weights.
        """
        if prompt.text is not None:
            return self._named(prompt.text)
        if not self.reads_points:
            raise PredictionError(ONLY_TEXTS)
        points = prompt.points + prompt.not_points
        with self._on_device():
            masks, scores, _ = self._model.predict_inst(
                self._state,
                point_coords=np.array(points, dtype=np.float32) if points else None,
                point_labels=np.array([1] * len(prompt.points) + [0] * len(prompt.not_points)) if points else None,
                box=None if prompt.box is None else np.array(prompt.box, dtype=np.float32),
                multimask_output=multimask,
            )
        return masks.astype(bool), scores

    def _named(self, text: str) -> Masks:
        self._processor.reset_all_prompts(self._state)
        with self._on_device():
            found = self._processor.set_text_prompt(text, self._state)
        order = found["scores"].argsort(descending=True)
        masks, scores = found["masks"][order, 0], found["scores"][order]
        return masks.cpu().numpy(), scores.float().cpu().numpy()

    def probabilities(self, tokens: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks and scores of all objects as probabilities 0 ... 1, and boxes; see `Sam3Predictor.probabilities`."""
        model = self._model
        words = tokens["input_ids"] * tokens["attention_mask"]
        encoder = model.backbone.language_backbone
        _, features = encoder.encoder(words)
        seen = {
            **self._state["backbone_out"],
            "language_features": encoder.resizer(features.transpose(0, 1)),
            "language_mask": words == 0,
        }
        with self._on_device():
            found = model.forward_grounding(
                backbone_out=seen,
                find_input=self._processor.find_stage,
                find_target=None,
                geometric_prompt=model._get_dummy_prompt(),
            )
        scores = found["pred_logits"].sigmoid() * found["presence_logit_dec"].sigmoid().unsqueeze(1)
        return found["pred_masks"].sigmoid(), scores, found["pred_boxes"]

    def _on_device(self) -> AbstractContextManager[object]:
        return WithoutGpu() if self._device.type == "cpu" else contextlib.nullcontext()

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Raise an error, because the package has nothing for it.

        Raises:
            PredictionError: always.
        """
        raise PredictionError(_NO_GRID)
