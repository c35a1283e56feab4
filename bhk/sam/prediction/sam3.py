"""Predicting with the models of SAM 3 that find objects by a text: `Sam3Model`, alone or in `Sam3VideoModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bhk.nn.meta import weights_on_meta
from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.hugging_face import HuggingFacePredictor
from bhk.sam.prediction.predictor import BOTH, ONLY_TEXTS, THRESHOLD, Masks, PredictionError
from bhk.sam.prediction.texts import TextReader

_JUDGED = (
    "pred_logits",
    "pred_boxes",
    "pred_masks",
    "presence_logits",
)  # what the processor reads of the model's outputs


class Sam3Predictor:
    """Finds all objects that a text names, with the image processor and the tokenizer of transformers around the model.

    Attributes:
        detector: the `Sam3Model`.
    """

    outputs, reads_points, reads_text = BOTH, False, True

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self.detector: Any = getattr(model, "detector_model", model)
        self._package: Any = package
        self._texts = TextReader(model, self.detector, package)
        side = self.detector.config.image_size
        self._processor = self._package.Sam3ImageProcessor(size={"height": side, "width": side})
        self._size = (0, 0)
        self._embeddings: Any = None

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""
        return self.detector.vision_encoder  # type: ignore[no-any-return]

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks."""
        return self.detector.mask_decoder  # type: ignore[no-any-return]

    @property
    def side(self) -> int:
        """Side of the encoder's input in pixels."""
        return self.detector.config.image_size  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Encode a picture."""
        inputs = self._processor(images=image, input_data_format="channels_last", return_tensors="pt")
        self._size = image.shape[:2]
        self._embeddings = self.detector.get_vision_features(inputs["pixel_values"].to(self.detector.device))

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of all objects that the text of the prompt names, the surest first.

        Raises:
            PredictionError: the prompt has no text, or one of too many words.
            MissingTokenizerError: the tokenizer is not beside the model's weights.
        """
        if prompt.text is None:
            raise PredictionError(ONLY_TEXTS)
        found = self.find(self._texts.tokens(prompt.text))
        for name in _JUDGED:  # in bfloat16, the processor would take mask logits of up to 0.004 for 0, which is outside
            found[name] = found[name].float()
        (objects,) = self._processor.post_process_instance_segmentation(found, THRESHOLD, target_sizes=[self._size])
        order = objects["scores"].argsort(descending=True)
        masks, scores = objects["masks"][order], objects["scores"][order]
        if not len(masks):
            masks = masks.new_empty(0, *self._size)
        return masks.bool().cpu().numpy(), scores.detach().float().cpu().numpy()

    @property
    def text_config(self) -> Any:
        """The configuration of the text encoder."""
        return self.detector.config.text_config

    def find(self, tokens: Mapping[str, torch.Tensor]) -> Any:
        """Return what the model itself returns for a text, given as `input_ids` and `attention_mask`, int64 (1, length)."""
        return self.detector(vision_embeds=self._embeddings, **tokens)

    def probabilities(self, tokens: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return masks and scores of all objects for a text as probabilities 0 ... 1, and boxes in units of the picture."""
        found = self.find(tokens)
        return (
            found.pred_masks.sigmoid(),
            found.pred_logits.sigmoid() * found.presence_logits.sigmoid(),
            found.pred_boxes,
        )

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Raise an error, because the model takes no points.

        Raises:
            PredictionError: always.
        """
        raise PredictionError(ONLY_TEXTS)


class Sam3VideoPredictor(Sam3Predictor):
    """The whole of SAM 3: its detector finds what a text names, its tracker answers points and boxes.

    The picture is encoded when the first prompt tells by which of the two, because each has its own neck.
    """

    reads_points = True

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        super().__init__(model, package)
        self._tracker = HuggingFacePredictor(_tracker_of(model, package), package)
        self._image: Rgb | None = None
        self._seen: list[object] = []  # which of the two have encoded the picture

    @property
    def encoder(self) -> nn.Module:
        """The part of the encoder that both share."""
        return self.detector.vision_encoder.backbone  # type: ignore[no-any-return]

    def set_image(self, image: Rgb) -> None:
        """Take a picture."""
        self._image, self._seen = image, []

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of all objects that a text names, or of the one object at points and boxes."""
        if prompt.text is not None:
            return super().predict(prompt, multimask=multimask)
        self._look(self._tracker.set_image)
        return self._tracker.predict(prompt, multimask=multimask)

    def find(self, tokens: Mapping[str, torch.Tensor]) -> Any:
        """Return what the detector itself returns for a text; see `Sam3Predictor`."""
        self._look(super().set_image)
        return super().find(tokens)

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds."""
        return self._tracker.everything(image, points_per_side)

    def _look(self, encode: Callable[[Rgb], None]) -> None:
        assert self._image is not None  # a picture comes first
        if encode not in self._seen:
            encode(self._image)
            self._seen.append(encode)


def _tracker_of(model: Any, package: Any) -> nn.Module:
    """Return the `Sam3TrackerModel` that consists of modules of a `Sam3VideoModel`."""
    settings = {**model.config.tracker_config.to_dict(), "model_type": "sam3_tracker"}
    with weights_on_meta():
        tracker: Any = package.Sam3TrackerModel(package.Sam3TrackerConfig.from_dict(settings))
    tracker.vision_encoder.backbone, tracker.vision_encoder.neck = (
        model.detector_model.vision_encoder.backbone,
        model.tracker_neck,
    )
    for part in ("prompt_encoder", "mask_decoder", "shared_image_embedding", "no_memory_embedding"):
        setattr(tracker, part, getattr(model.tracker_model, part))
    return tracker.eval()  # type: ignore[no-any-return]
