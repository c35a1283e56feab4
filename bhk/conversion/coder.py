"""What encodes the tensors of a conversion: on their own, or with what calibration found out."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bhk.base.errors import listed
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.texts import counted
from bhk.calibration.calibrate import CalibrationResult, calibrate
from bhk.calibration.errors import CalibrationError
from bhk.calibration.inputs import Inputs, SamInputs
from bhk.calibration.model import CalibrationModel
from bhk.calibration.options import Calibration
from bhk.calibration.sensitivity import Sensitivity
from bhk.checkpoint.roles import natural_key
from bhk.codec.tensor import EncodedTensor, encode_tensor, keep
from bhk.conversion.prepare import Job
from bhk.conversion.selection import PlannedTensor
from bhk.nn.device import device_of
from bhk.version import __version__

NO_PARAMETER = "belongs to no parameter of the model"  # why a tensor is coded without feedback
FEW = 0.25  # share of chance above which samples are too few to say much


@dataclass(frozen=True)
class CalibrationReport(Report):
    """What a calibration did.

    Attributes:
        samples: how many samples the model was shown.
        seconds: stage ("moments", "sensitivity") -> wall time.
        coding_seconds: tensor name -> wall time of encoding it; empty after a dry run.
        without_feedback: tensor name -> why it was coded without error feedback.
        chance: tensor name -> how much of what the samples say about its inputs is chance, from 0 (many samples) to 1;
            the more, the less its errors are compensated.
        insensitive: names of the tensors on which no output depends; their steps are those of the table.
    """

    samples: int
    seconds: Mapping[str, float]
    coding_seconds: Mapping[str, float] = field(repr=False)
    without_feedback: Mapping[str, str] = field(repr=False)
    chance: Mapping[str, float] = field(repr=False)
    insensitive: tuple[str, ...] = field(repr=False)

    def lines(self) -> Iterator[str]:
        """Yield how many samples were shown, and how long each stage took."""
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in self.seconds.items())
        yield f"calibrated on {counted(self.samples, 'sample')}: {stages}"


@dataclass(frozen=True)
class Coder:
    """Encodes tensors that have a step.

    Attributes:
        calibration: what calibration found out; None without calibration.
        samples: how many samples the model was shown.
        warnings: what could not be calibrated, and why.
    """

    calibration: CalibrationResult | None = None
    samples: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def sensitivity(self) -> Mapping[str, Sensitivity] | None:
        """Tensor name -> sensitivity; None if it was not measured."""
        return None if self.calibration is None else self.calibration.sensitivity

    def encode(self, planned: PlannedTensor) -> EncodedTensor:
        """Encode a tensor with its step, or keep it exact if that is planned."""
        if not planned.coded:
            return keep(planned.tensor)
        feedback = None if self.calibration is None else self.calibration.feedback(planned.name)
        tensor = planned.tensor if feedback is None else planned.tensor.to(feedback.order.device)
        return encode_tensor(tensor, planned.pairing, planned.step, feedback)

    def report(self, coding_seconds: Mapping[str, float]) -> CalibrationReport | None:
        """Return what calibration did, or None if there was none."""
        found = self.calibration
        if found is None:
            return None
        return CalibrationReport(
            self.samples, found.seconds, coding_seconds, found.without_feedback, found.chance, found.insensitive
        )


@contextlib.contextmanager
def coder_for(job: Job, progress: Progress) -> Iterator[Coder]:
    """Calibrate the model if the job asks for it, and yield the coder.

    Raises:
        CalibrationError: the model fails, or none of its parameters is coded.
        WorkDirError, WriteError: the work folder holds results of other work, or cannot be written.
    """
    evidence = job.evidence
    if evidence is None or evidence.calibration is None or evidence.inputs is None:
        yield Coder()
        return
    coded = {name: planned.name for planned in job.tensors if planned.coded for name in planned.names}
    weights = _weights(evidence.model, coded)
    with _work_folder(evidence.calibration) as folder:
        found = calibrate(
            evidence.model.module,
            weights,
            evidence.inputs,
            folder=folder,
            fingerprint=_fingerprint(evidence.model, evidence.calibration, evidence.inputs, sorted(weights)),
            sensitivity=evidence.calibration.steps == "measured",
            seed=evidence.calibration.seed,
            progress=progress,
        )
        without = dict.fromkeys(set(coded.values()) - set(weights), NO_PARAMETER) | dict(found.without_feedback)
        delicate = {planned.name for planned in job.tensors if planned.delicate}  # feedback is not for them
        found = replace(
            found,
            without_feedback={name: reason for name, reason in without.items() if name not in delicate},
            insensitive=tuple(name for name in found.insensitive if name not in delicate),
        )
        yield Coder(found, len(evidence.inputs), (*evidence.warnings, *_uncalibrated(found)))


def _weights(model: CalibrationModel, coded: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the parameters to calibrate, by the names their tensors are stored under."""
    weights: dict[str, Tensor] = {
        coded[stored]: parameter
        for name, parameter in model.module.named_parameters()
        if (stored := model.names.get(name, "")) in coded
    }
    if not weights:
        raise CalibrationError("no tensor to be coded is a parameter of the model, so there is nothing to calibrate")
    return weights


def _uncalibrated(found: CalibrationResult) -> Iterator[str]:
    """Yield a warning for each reason why tensors are coded without feedback or measured steps."""
    reasons: dict[str, list[str]] = {}
    for name in sorted(found.without_feedback, key=natural_key):
        reasons.setdefault(found.without_feedback[name], []).append(name)
    for reason, names in reasons.items():
        yield f"coded without error feedback, because each {reason}: {listed(names, 5)}"
    if found.insensitive:
        yield f"coded with the step of the table, because no output depends on them: {listed(found.insensitive, 5)}"
    few = [name for name in sorted(found.chance, key=natural_key) if found.chance[name] > FEW]
    if few:
        yield (
            "coded with little error feedback, because the samples are too few for that many columns; show more: "
            f"{listed(few, 5)}"
        )


@contextlib.contextmanager
def _work_folder(calibration: Calibration) -> Iterator[Path]:
    if calibration.work_dir is not None:
        yield Path(calibration.work_dir)
        return
    with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
        yield Path(folder)


def _fingerprint(
    model: CalibrationModel, calibration: Calibration, inputs: Inputs, names: Sequence[str]
) -> dict[str, str]:
    """Return everything that the results of a calibration depend on, for its work folder."""
    if calibration.work_dir is None:
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
        "kind of samples": str(calibration.samples),
        "samples": f"{len(inputs)} {shown.hexdigest()}",
        "seed": str(calibration.seed),
        "tensors": "\n".join(names),
    }
