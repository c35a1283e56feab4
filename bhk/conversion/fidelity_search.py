"""Find the coarsest coding of a model whose masks agree with the original's as well as the user asked."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bhk.base.errors import option
from bhk.base.parallel import ordered_map
from bhk.base.progress import Progress
from bhk.calibration.model import CalibrationModel
from bhk.calibration.options import Calibration
from bhk.codec.fit import PresetError
from bhk.codec.tensor import EncodedTensor
from bhk.conversion.ratio_search import Encode
from bhk.conversion.steps import StepsByLevel
from bhk.evaluation.fidelity import ask, compared
from bhk.evaluation.models import Subject
from bhk.pictures.prompted import Asked, from_folder, synthetic
from bhk.sam.prediction.predictor import predictor_for

PICTURES = 8
CLOSE = 0.05  # the search stops once the loss 1 - IoU is within this share of what is allowed
MAX_TRIALS = 8
DB_PER_DECADE = 20.0  # with a tenth of the step, a tenth as many pixels along edges change sides


def pictures_for(model: nn.Module, calibration: Calibration | None) -> tuple[Asked, ...]:
    """Return pictures with prompts: from the calibration's folder if there is one, else dead leaves.

    They are drawn with another seed than those of the calibration.

    Raises:
        PredictionError: the model does not predict masks.
    """
    side = predictor_for(model).side
    seed = calibration.seed if calibration else 0
    samples = calibration.samples if calibration else None
    if isinstance(samples, str | os.PathLike) and Path(samples).is_dir():
        return from_folder(Path(samples), PICTURES, seed + 1, side)[0]
    return synthetic("dead-leaves", PICTURES, seed + 1, side)


def level_for_fidelity(
    wanted: float,
    steps: StepsByLevel,
    encode: Encode,
    model: CalibrationModel,
    pictures: Sequence[Asked],
    progress: Progress,
) -> float:
    """Return the smallest level in dB that the search finds with a mean mask IoU of at least `wanted`.

    Args:
        wanted: mean mask IoU with the original.
        steps: the steps at each level.
        encode: encodes a tensor that has a step.
        model: the dense original.
        pictures: masks of the original and of the coded model are compared on these, as `bhk.fidelity` does.
        progress: called with ("Fidelity", trials done, most trials possible).

    Raises:
        PresetError: even the finest coding does not reach `wanted`.
    """
    original = Subject(model.module)
    expected = [ask(original, pixels, prompts) for pixels, prompts in pictures]
    coded = copy.deepcopy(model.module)
    subject = Subject(coded)

    def loss(level_db: float) -> float:
        tensors = [steps.planned(entry, level_db) for entry in steps.sampled]
        encoded = ordered_map(encode, tensors, steps.threads)
        named = ((name, one) for planned, one in zip(tensors, encoded, strict=True) for name in planned.names)
        _replace(coded, model.names, dict(named))
        pairs = zip(expected, pictures, strict=True)
        ious = [
            iou for answers, (pixels, prompts) in pairs for iou in compared(answers, ask(subject, pixels, prompts)).iou
        ]
        return 1 - float(np.mean(ious))

    return lowest_level(loss, 1 - wanted, steps.level_range_db, progress)


def lowest_level(
    loss: Callable[[float], float], allowed: float, within: tuple[float, float], progress: Progress
) -> float:
    """Return a level in dB within bounds, at which the loss is at most `allowed` and close to it.

    Args:
        loss: returns the loss at a ratio in dB; falls as the ratio grows.
        allowed: the largest loss.
        within: the lowest and the highest ratio.
        progress: called with ("Fidelity", trials done, most trials possible).

    Raises:
        PresetError: the loss is larger even at the highest ratio.
    """
    low, high = within
    best: tuple[float, float] | None = None
    level_db = 25.0
    for trial in range(MAX_TRIALS):
        progress("Fidelity", trial, MAX_TRIALS)
        found = loss(level_db)
        if found <= allowed:
            best, high = (level_db, found), level_db
        else:
            low = level_db
        if best is not None and (best[1] >= (1 - CLOSE) * allowed or high - low < 0.1):
            break
        if low == within[1]:
            raise PresetError(
                f"a mask IoU of {1 - allowed:g} was asked for; this model reaches {1 - found:.4f} at most: "
                f"keep some tensors exact with {option('exact')}, or ask for less"
            )
        guess = level_db + DB_PER_DECADE * math.log10(max(found, 1e-6) / ((1 - CLOSE / 2) * allowed))
        level_db = min(max(guess, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        if best is None and (trial == MAX_TRIALS - 2 or guess > high):
            level_db = high
    progress("Fidelity", MAX_TRIALS, MAX_TRIALS)
    assert best is not None  # the last trial is the finest coding
    return best[0]


def _replace(module: nn.Module, names: Mapping[str, str], tensors: Mapping[str, EncodedTensor]) -> None:
    """Put decoded tensors into a module."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if (stored := names.get(name, "")) in tensors:
                parameter.copy_(tensors[stored].decode())
