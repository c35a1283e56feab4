"""What calibration shows a model: synthetic pictures or the user's own with prompts, random tokens, or the user's samples."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import BatchInputs, Inputs, SamInputs, TextInputs, pixel_values, random_tokens
from bhk.calibration.options import Calibration
from bhk.pictures.prompted import KINDS, Asked, from_folder, synthetic
from bhk.sam.prediction.predictor import PredictionError, predictor_for

_MAX_TOKENS = 128  # in a sequence
_SIDE = 224  # pixels of a picture for a vision model that takes any size


def inputs_for(module: nn.Module, calibration: Calibration) -> tuple[Inputs, tuple[str, ...]]:
    """Return what to show a model, and warnings. A single tensor, mapping or callable is one sample.

    Raises:
        CalibrationError: the samples are of no known kind, or not for this model.
        NoPicturesError: the folder holds no picture that can be read.
    """
    samples, limit, seed = calibration.samples, calibration.limit, calibration.seed
    if not isinstance(samples, str | os.PathLike):
        return _given(samples), ()
    if samples not in KINDS and not Path(samples).is_dir():
        raise CalibrationError(
            f"cannot calibrate with {os.fspath(samples)!r}; expected {', '.join(KINDS)}, or a folder of pictures"
        )
    if getattr(module, "main_input_name", None) == "input_ids":
        return _tokens(module, samples, limit, seed), ()
    with contextlib.suppress(PredictionError):
        predictor = predictor_for(module)
        asked, warnings = _pictures(samples, limit, seed, predictor.side)
        if predictor.reads_text:
            return TextInputs(tuple(picture for picture, _ in asked), seed), warnings
        return SamInputs(asked), warnings
    height, width = _picture_size(module)
    asked, warnings = _pictures(samples, limit, seed, max(height, width))
    return BatchInputs(pixel_values((picture for picture, _ in asked), height, width)), warnings


def _given(samples: Iterable[Any] | Callable[[nn.Module], Any]) -> BatchInputs:
    if callable(samples) or isinstance(samples, Tensor | Mapping):
        return BatchInputs((samples,))
    try:
        batches = tuple(samples)
    except TypeError:
        raise CalibrationError(
            f"cannot calibrate with {type(samples).__name__}; expected {', '.join(KINDS)}, a folder of pictures, an iterable "
            "of samples, or a callable that is given the model"
        ) from None
    if not batches:
        raise CalibrationError("there are no samples to calibrate with; give at least one")
    return BatchInputs(batches)


def _tokens(module: Any, samples: str | os.PathLike[str], limit: int, seed: int) -> BatchInputs:
    if samples not in KINDS:
        raise CalibrationError(
            f"{type(module).__name__} reads tokens, so it cannot be shown the pictures of {os.fspath(samples)}; give "
            f"{' or '.join(KINDS)} for random tokens, or samples of your own"
        )
    config = module.config.get_text_config()
    length = min(_MAX_TOKENS, getattr(config, "max_position_embeddings", _MAX_TOKENS))
    return BatchInputs(random_tokens(config.vocab_size, limit, length, seed))


def _pictures(
    samples: str | os.PathLike[str], limit: int, seed: int, side: int
) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    """Return pictures with prompts, and a warning for each picture that cannot be read."""
    for kind in KINDS:
        if samples == kind:
            return synthetic(kind, limit, seed, side), ()
    asked, unreadable = from_folder(Path(samples), limit, seed, side)
    return asked, tuple(f"not used for calibration: {reason}" for reason in unreadable)


def _picture_size(module: Any) -> tuple[int, int]:
    """Return the (height, width) of the pictures that a vision model takes.

    Raises:
        CalibrationError: bhk does not know what the model takes.
    """
    if getattr(module, "main_input_name", None) == "pixel_values":
        size = getattr(module.config, "image_size", _SIDE)
    elif isinstance(getattr(module, "img_size", None), int):  # an image encoder of the family on its own
        size = module.img_size
    else:
        raise CalibrationError(
            f"bhk does not know what pictures or tokens {type(module).__name__} takes; calibrate with samples of your own"
        )
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
