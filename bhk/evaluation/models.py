"""The models of an evaluation: how a worker process loads one, and how it is prompted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bhk.nn.device import memory_error
from bhk.nn.hyperlinear import Compute
from bhk.nn.loading import load_options
from bhk.nn.plan import Mode
from bhk.nn.precision import mixed_precision
from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.attention.fuse import Attention
from bhk.sam.load import load_model
from bhk.sam.prediction.predictor import Masks, Output, check_prompts, predictor_for, takes


@dataclass(frozen=True)
class ModelSource:
    """A model to load in a worker process; the fields are the arguments of `bhk.load`."""

    path: str
    device: str = "cpu"
    dtype: str = "float32"
    mode: str = "auto"
    compute: str = "exact"
    attention: str = "fused"
    config: str | None = None
    video: bool = False

    def load(self) -> nn.Module:
        """Load the model.

        Raises:
            BhkError: see `bhk.load`.
        """
        options = load_options(
            mode=cast("Mode", self.mode),
            compute=cast("Compute", self.compute),
            device=self.device,
            dtype=self.dtype,
        )
        attention = cast("Attention", self.attention)
        return load_model(self.path, options, attention=attention, config=self.config, video=self.video).module


class Subject:
    """A model that answers prompts about the picture it looked at last.

    Args:
        model: a model of the Segment Anything family; it is put in eval mode.

    Raises:
        PredictionError: bhk does not know how to prompt this model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()
        self._predictor = predictor_for(model)
        self._embedding = torch.empty(0)
        self._size = (0, 0)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Which outputs of the mask decoder the model has."""
        return self._predictor.outputs

    @property
    def embedding(self) -> Tensor:
        """The image encoder's output, float32 (values,) on the CPU: all its tensors except position encodings."""
        return self._embedding

    def check(self, *, texts: bool) -> None:
        """Check that the model takes texts, or else points and boxes.

        Raises:
            PredictionError: it does not.
        """
        check_prompts(self._predictor, texts=texts)

    def takes(self, prompt: Prompt) -> bool:
        """Return whether the model takes such a prompt."""
        return takes(self._predictor, prompt)

    def look(self, pixels: Rgb) -> None:
        """Take a picture, uint8 (height, width, 3). Models encode it now, or with the first prompt."""
        self._size = (pixels.shape[1], pixels.shape[0])
        with self._asking():
            self._predictor.set_image(pixels)

    def answer(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return masks of one object, or of all that a text names, bool (n, height, width), and their scores, float32 (n,)."""
        with self._asking():
            return self._predictor.predict(prompt, multimask=multimask)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        def keep(module: nn.Module, inputs: object, outputs: object) -> None:
            self._embedding = embedding_of(outputs)

        hook = self._predictor.encoder.register_forward_hook(keep)
        try:
            with memory_error(self._model, *self._size), torch.no_grad(), mixed_precision(self._model):
                yield
        finally:
            hook.remove()


def embedding_of(outputs: object) -> Tensor:
    """Return the distinct tensors of an encoder's output but position encodings, concatenated: float32 (values,) on the CPU."""
    distinct = {id(tensor): tensor for tensor in _tensors(outputs)}
    return torch.cat([tensor.detach().flatten().float().cpu() for tensor in distinct.values()])


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):  # SAM2 also returns position encodings, which are the same for every picture
        for name, value in outputs.items():
            if "pos" not in name:
                yield from _tensors(value)
    elif isinstance(outputs, (list, tuple)):
        for value in outputs:
            yield from _tensors(value)
