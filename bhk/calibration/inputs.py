"""The samples on which calibration runs a model, and the outputs that should change little."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bhk.base.errors import BhkError, option
from bhk.calibration.errors import CalibrationError
from bhk.nn.device import device_of
from bhk.pictures.image import Rgb
from bhk.pictures.prompted import Asked
from bhk.sam.prediction.original_sam3 import OriginalSam3Predictor
from bhk.sam.prediction.predictor import predictor_for, takes
from bhk.sam.prediction.sam3 import Sam3Predictor

# What a module's forward takes: one tensor, a sequence of arguments, or a mapping by name; or a callable given the module.
Batch = Tensor | Sequence[Any] | Mapping[str, Any] | Callable[[nn.Module], Any]

SEQUENCES = 16  # of random tokens in a batch
TEXTS, WORDS = 2, 4  # for each picture; tokens in a text at most
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet; most vision models expect them


class Inputs(Protocol):
    """Samples for a model."""

    def __len__(self) -> int:
        """Number of samples."""

    def run(self, model: nn.Module, index: int) -> tuple[Tensor, ...]:
        """Run the model on sample `index`; return the outputs whose change is to be small, as floating-point tensors.

        With gradients enabled, outputs keep their autograd graph, even if the model's package switches gradients off.

        Raises:
            CalibrationError: the model fails.
        """


@dataclasses.dataclass(frozen=True)
class SamInputs:
    """Pictures with prompts for a model of the Segment Anything family.

    The outputs are what the mask decoder returns for each prompt: masks as probabilities 0 ... 1 at the decoder's resolution,
    and predicted IoUs, both for the multimask output and, if the model has one, for the single mask.
    """

    asked: tuple[Asked, ...]

    def __len__(self) -> int:
        return len(self.asked)

    def run(self, model: nn.Module, index: int) -> tuple[Tensor, ...]:
        """Run the model on all prompts of picture `index`; see `Inputs`."""
        picture, prompts = self.asked[index]
        found: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, outputs: Sequence[Tensor]) -> None:
            found.extend((outputs[0].sigmoid(), outputs[1]))

        with _shown(model, index):
            predictor = predictor_for(model)  # here, because it copies the hooks
            predictor.set_image(picture)
            hook = predictor.decoder.register_forward_hook(keep)
            try:
                for prompt in filter(partial(takes, predictor), prompts):
                    for output in predictor.outputs:
                        predictor.predict(prompt, multimask=output == "multimask")
            finally:
                hook.remove()
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class TextInputs:
    """Pictures with texts of random tokens, for a model that finds objects by a text.

    The outputs are masks and the scores of all objects as probabilities 0 ... 1, and boxes in units of the picture.
    """

    pictures: tuple[Rgb, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.pictures)

    def run(self, model: nn.Module, index: int) -> tuple[Tensor, ...]:
        """Run the model on all texts of picture `index`; see `Inputs`."""
        found: list[Tensor] = []
        with _shown(model, index):
            predictor = predictor_for(model)  # here, because it copies the hooks
            assert isinstance(predictor, Sam3Predictor | OriginalSam3Predictor)  # the caller has looked
            predictor.set_image(self.pictures[index])
            for tokens in random_texts(predictor.text_config, TEXTS, (self.seed, index)):
                found += predictor.probabilities(_on(device_of(model), tokens))
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class BatchInputs:
    """Arguments for the forward of any module. The outputs are all floating-point tensors that it returns, each once."""

    batches: tuple[Batch, ...]

    def __len__(self) -> int:
        return len(self.batches)

    def run(self, model: nn.Module, index: int) -> tuple[Tensor, ...]:
        """Run the model on batch `index`; see `Inputs`."""
        batch = self.batches[index]
        with _shown(model, index):
            if isinstance(batch, Tensor | Mapping | list | tuple):
                outputs = _forward(model, _on(device_of(model), batch))
            elif callable(batch):
                outputs = batch(model)
            else:
                raise CalibrationError(
                    f"sample {index} is {type(batch).__name__}; expected a tensor, a tuple of arguments or a mapping of "
                    "arguments by name, as the model's forward takes them, or a callable that is given the model"
                )
        found = {id(tensor): tensor for tensor in _floating(outputs)}
        if not found:
            raise CalibrationError(
                f"{type(model).__name__} returns {type(outputs).__name__} for sample {index}; expected floating-point tensors"
            )
        return tuple(found.values())


def _forward(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch) if isinstance(batch, Tensor) else model(*batch)


@contextlib.contextmanager
def _shown(model: nn.Module, index: int) -> Iterator[None]:
    """Keep gradients enabled inside functions that switch them off; name the sample on which a model fails."""

    def enable(module: nn.Module, inputs: object) -> None:
        torch.set_grad_enabled(True)  # lasts until the function that switched them off returns

    modules = model.modules() if torch.is_grad_enabled() else ()
    hooks = [module.register_forward_pre_hook(enable) for module in modules]
    try:
        yield
    except (BhkError, MemoryError):
        raise
    except Exception as error:  # the code of a model or a user may raise anything
        reason = str(error).partition("\n")[0] or "no message"
        raise CalibrationError(
            f"{type(model).__name__} fails on sample {index} ({type(error).__name__}: {reason}); "
            f"give samples that its forward takes, or convert without {option('calibration')}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def _on(device: torch.device, value: Any) -> Any:
    """Return arguments with all tensors moved to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _on(device, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on(device, item) for item in value]
    return value


def _floating(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _floating(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _floating(value)
    elif dataclasses.is_dataclass(outputs):
        for field in dataclasses.fields(outputs):
            yield from _floating(getattr(outputs, field.name))


def random_tokens(vocabulary: int, samples: int, length: int, seed: int) -> tuple[Mapping[str, Tensor], ...]:
    """Return batches of uniformly random tokens for a text encoder of transformers.

    Each batch has `input_ids` and `attention_mask`, both int64 (SEQUENCES, length).
    """
    rng = np.random.default_rng(seed)
    drawn = (torch.from_numpy(rng.integers(0, vocabulary, (SEQUENCES, length))) for _ in range(samples))
    return tuple({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)} for tokens in drawn)


def random_texts(config: Any, count: int, seed: Sequence[int]) -> Iterator[Mapping[str, Tensor]]:
    """Yield texts of up to `WORDS` random tokens between the tokens for begin and end, padded as the model's tokenizer does.

    Each has `input_ids` and `attention_mask`, both int64 (1, length).
    """
    rng = np.random.default_rng(seed)
    begin, end = (
        min(token, config.vocab_size - back) if isinstance(token, int) else config.vocab_size - back
        for token, back in ((config.bos_token_id, 2), (config.eos_token_id, 1))
    )
    length = config.max_position_embeddings
    for _ in range(count):
        # In CLIP's vocabulary, words come before both; in others, the first token begins a text.
        words = rng.integers(0, begin or config.vocab_size, rng.integers(1, WORDS + 1)).tolist()
        tokens = torch.full((1, length), end)
        tokens[0, : len(words) + 1] = torch.tensor([begin, *words])
        yield {"input_ids": tokens, "attention_mask": (torch.arange(length)[None] < len(words) + 2).long()}


def pixel_values(pictures: Iterable[Rgb], height: int, width: int) -> tuple[Tensor, ...]:
    """Return pictures as most vision models expect them: float32 (1, 3, height, width) with normalised channels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    images = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for picture in pictures)
    scaled = (
        nn.functional.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)
        for image in images
    )
    return tuple((image - mean) / std for image in scaled)
