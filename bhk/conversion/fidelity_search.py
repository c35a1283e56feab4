"""How finely a model must be coded for its masks to agree with the original's as well as is wanted."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bhk.base.parallel import ordered_map
from bhk.base.progress import Progress
from bhk.calibration.models import CalibrationModel
from bhk.calibration.options import Calibration
from bhk.codec.fit import PresetError
from bhk.codec.tensor import EncodedTensor
from bhk.conversion.steps import Encode, Steps
from bhk.evaluation.fidelity import ask, compared
from bhk.evaluation.models import Subject
from bhk.pictures.prompted import Asked, from_folder, synthetic
from bhk.sam.prediction.predictor import predictor_for

PICTURES = 8
CLOSE = 0.05  # of the loss 1 - IoU that is allowed: a file that keeps so much in reserve is small enough
MAX_TRIALS = 8
DB_PER_DECADE = 20.0  # a tenth of the step, a tenth of the pixels along an edge that change sides


def pictures_for(model: nn.Module, calibration: Calibration | None) -> tuple[Asked, ...]:
    """Return pictures with prompts: of the user's folder if there is one, drawn and asked anew, else other dead leaves.

    Raises:
        PredictionError: the model is not one to ask for masks.
    """
    side = predictor_for(model).side
    seed = calibration.seed if calibration else 0
    samples = calibration.samples if calibration else None
    if isinstance(samples, str | os.PathLike) and Path(samples).is_dir():
        return from_folder(Path(samples), PICTURES, seed + 1, side)[0]
    return synthetic("dead-leaves", PICTURES, seed + 1, side)


def snr_for_fidelity(
    wanted: float,
    steps: Steps,
    encode: Encode,
    model: CalibrationModel,
    pictures: Sequence[Asked],
    progress: Progress,
) -> float:
    """Return the smallest signal-to-noise ratio of the model in dB found at which the mean mask IoU is at least `wanted`.

    Args:
        encode: encodes an item that has a step.
        pictures: on which the masks of the original and of the coded model are compared, as `bhk.fidelity` does.
        progress: called with ("Fidelity", trials done, all trials at most).

    Raises:
        PresetError: even the finest coding is not so close.
    """
    original = Subject(model.module)
    expected = [ask(original, pixels, prompts) for pixels, prompts in pictures]
    coded = copy.deepcopy(model.module)
    subject = Subject(coded)

    def loss(snr: float) -> float:
        items = [item for item in steps.at(snr) if item.coded]
        encoded = ordered_map(encode, items, steps.threads)
        named = ((name, one) for item, one in zip(items, encoded, strict=True) for name in item.names)
        _replace(coded, model.names, dict(named))
        pairs = zip(expected, pictures, strict=True)
        ious = [
            iou for answers, (pixels, prompts) in pairs for iou in compared(answers, ask(subject, pixels, prompts)).iou
        ]
        return 1 - float(np.mean(ious))

    return _search(loss, 1 - wanted, steps.snr_range_db, progress)


def _search(loss: Callable[[float], float], allowed: float, within: tuple[float, float], progress: Progress) -> float:
    """Return a ratio in dB whose loss is at most `allowed`, and nearly that."""
    low, high = within
    best: tuple[float, float] | None = None
    snr = 25.0
    for trial in range(MAX_TRIALS):
        progress("Fidelity", trial, MAX_TRIALS)
        found = loss(snr)
        if found <= allowed:
            best, high = (snr, found), snr
        else:
            low = snr
        if best is not None and (best[1] >= (1 - CLOSE) * allowed or high - low < 0.1):
            break
        if low == within[1]:
            raise PresetError(
                f"a mask IoU of {1 - allowed:g} was asked for; this model reaches {1 - found:.4f} at most: "
                "keep some tensors exact, or ask for less"
            )
        guess = snr + DB_PER_DECADE * math.log10(max(found, 1e-6) / ((1 - CLOSE / 2) * allowed))
        snr = min(max(guess, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        if best is None and (trial == MAX_TRIALS - 2 or guess > high):
            snr = high
    progress("Fidelity", MAX_TRIALS, MAX_TRIALS)
    assert best is not None  # the last trial is at the finest
    return best[0]


def _replace(module: nn.Module, names: Mapping[str, str], tensors: Mapping[str, EncodedTensor]) -> None:
    """Put decoded tensors into a module."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if (stored := names.get(name, "")) in tensors:
                parameter.copy_(tensors[stored].decode())
