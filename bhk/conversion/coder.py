"""Calibration as part of a conversion."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from bhk.base.errors import listed
from bhk.base.progress import Progress
from bhk.calibration.calibrate import CalibrationResult, calibrate
from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import Inputs, SamInputs
from bhk.calibration.models import CalibrationModel, calibration_model, inputs_for
from bhk.calibration.options import Calibration
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.roles import natural_key
from bhk.codec.tensor import EncodedTensor, encode_tensor, keep
from bhk.conversion.plan import Item
from bhk.conversion.steps import allocate
from bhk.nn.device import device_of
from bhk.sam.recognise import Recognised
from bhk.version import __version__

NO_PARAMETER = "is no parameter of the model"


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration did.

    Attributes:
        samples: how many the model was shown.
        seconds: wall time of each stage.
        coding_seconds: name -> wall time of choosing the codes of a tensor, the last time they were chosen.
        plain: name -> why a tensor was coded without feedback, in words.
        insensitive: tensors whose step is that of the table, since they moved no output.
    """

    samples: int
    seconds: Mapping[str, float]
    coding_seconds: Mapping[str, float] = field(repr=False)
    plain: Mapping[str, str] = field(repr=False)
    insensitive: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Coder:
    """Encodes the tensors of a conversion, with what calibration found if there was one.

    Attributes:
        warnings: in words.
        samples: how many the model was shown.
    """

    calibration: CalibrationResult | None = None
    warnings: tuple[str, ...] = ()
    samples: int = 0
    _seconds: dict[str, float] = field(default_factory=dict, repr=False)

    def __call__(self, item: Item) -> EncodedTensor:
        """Encode an item that has a step, or is kept exact."""
        if not item.coded:
            return keep(item.tensor)
        started = time.perf_counter()
        feedback = None if self.calibration is None else self.calibration.feedback(item.names[0])
        tensor = item.tensor if feedback is None else item.tensor.to(feedback.order.device)
        encoded = encode_tensor(tensor, item.pairing, item.step, feedback)
        self._seconds[item.names[0]] = time.perf_counter() - started
        return encoded

    def allocate(self, items: Sequence[Item], threads: int) -> list[Item]:
        """Return the items with steps by their sensitivity, where that was measured."""
        sensitivity = None if self.calibration is None else self.calibration.sensitivity
        return list(items) if sensitivity is None else allocate(items, sensitivity, threads)

    @property
    def report(self) -> CalibrationReport | None:
        """What the calibration did; None where there was none."""
        found = self.calibration
        if found is None:
            return None
        return CalibrationReport(
            self.samples, found.seconds, dict(self._seconds), found.without_feedback, found.insensitive
        )


def model_of(src: object, checkpoint: Checkpoint, recognised: Recognised | None) -> CalibrationModel:
    """Return the model that is converted, dense, on the device that is fastest.

    Raises:
        CalibrationError, MissingPackageError, UnknownModelError, MismatchError: see `bhk.calibration.models`.
    """
    if isinstance(src, nn.Module):
        try:
            module = copy.deepcopy(src).float().eval()
        except RuntimeError as error:
            raise CalibrationError(f"no copy can be made of the {type(src).__name__} to look at: {error}") from error
        prefix = recognised.prefix if recognised else ""
        model = CalibrationModel(module, {name: name.removeprefix(prefix) for name, _ in module.named_parameters()})
    else:
        model = calibration_model(str(src), checkpoint, recognised)
    model.module.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


@contextlib.contextmanager
def coding(
    model: CalibrationModel | None,
    items: Sequence[Item],
    options: Calibration | None,
    progress: Progress,
) -> Iterator[Coder]:
    """Show the model samples if that was asked for; yield what encodes the items.

    Raises:
        CalibrationError, NoPicturesError: see `bhk.calibration`.
        WorkDirError, WriteError: the work folder is that of other work, or cannot be written.
    """
    if options is None or model is None:
        yield Coder()
        return
    inputs, warnings = inputs_for(model, options)
    coded = {name: item.names[0] for item in items if item.coded for name in item.names}
    weights = {
        coded[stored]: parameter
        for name, parameter in model.module.named_parameters()
        if (stored := model.names.get(name)) in coded
    }
    if not weights:
        raise CalibrationError("no parameter of the model has the name of a tensor that is coded; nothing to calibrate")
    with _folder(options.work_dir) as folder:
        found = calibrate(
            model.module,
            weights,
            inputs,
            folder=folder,
            identity=_identity(model, options, inputs, sorted(weights)),
            sensitivity=options.steps == "measured",
            seed=options.seed,
            progress=progress,
        )
        without = dict.fromkeys(set(coded.values()) - set(weights), NO_PARAMETER) | dict(found.without_feedback)
        found = replace(found, without_feedback=without)
        yield Coder(found, (*warnings, *_uncalibrated(found)), len(inputs))


def _uncalibrated(found: CalibrationResult) -> Iterator[str]:
    """Say which tensors are coded plainly, and why."""
    reasons: dict[str, list[str]] = {}
    for name in sorted(found.without_feedback, key=natural_key):
        reasons.setdefault(found.without_feedback[name], []).append(name)
    for reason, names in reasons.items():
        yield f"coded without feedback, since each {reason}: {listed(names, 5)}"
    if found.insensitive:
        yield f"given the step of the table, since they moved no output: {listed(found.insensitive, 5)}"


@contextlib.contextmanager
def _folder(work_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    if work_dir is not None:
        yield Path(work_dir)
        return
    with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
        yield Path(folder)


def _identity(model: CalibrationModel, options: Calibration, inputs: Inputs, names: Sequence[str]) -> dict[str, str]:
    """Return all that a calibration depends on."""
    if options.work_dir is None:
        return {}
    weights, shown = hashlib.sha256(str(model.module).encode()), hashlib.sha256()
    for name, parameter in model.module.named_parameters():
        weights.update(f"{name} {tuple(parameter.shape)}".encode())
        weights.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    if isinstance(inputs, SamInputs):
        for picture, prompts in inputs.asked:
            shown.update(f"{picture.shape} {prompts}".encode())
            shown.update(picture.tobytes())
    return {
        "bhk": __version__,
        "torch": str(torch.__version__),
        "device": device_of(model.module).type,
        "model": weights.hexdigest(),
        "calibrate": str(options.samples),
        "pictures": f"{len(inputs)} {shown.hexdigest()}",
        "seed": str(options.seed),
        "tensors": "\n".join(names),
    }
