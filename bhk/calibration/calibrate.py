"""Run a model on samples to learn how the errors of its weights reach its outputs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bhk.base.errors import option
from bhk.base.files import ReadError, WriteError
from bhk.base.progress import Progress, silent
from bhk.base.workdir import WorkDir, WorkDirError
from bhk.calibration.inputs import Inputs
from bhk.calibration.moments import Moments, SecondMoments
from bhk.calibration.sensitivity import Sensitivity, measure
from bhk.checkpoint.roles import role_of
from bhk.codec.feedback import Feedback, feedback_from
from bhk.nn.device import device_of

# Gradients are taken on this many of the samples. On the demo SAM, sensitivities from two pictures scatter by 1.5 dB around
# those from 24 pictures, and files are equally small.
MEASURED = 2
MEMORY = 2 << 30  # bytes of second moments held at once; if all take more, the model runs on every sample several times

# Why a tensor is coded without feedback.
NO_INPUTS = "received no input as a linear layer or convolution"
NO_MOMENTS = "received only zeros, or values that are not finite"
NO_LAYER = "belongs to no linear layer or convolution"
NO_ROWS = "has rows of odd length"


class _Note(msgspec.Struct, frozen=True):
    """What is known about the feedback of a tensor: why there is none, or an empty text and its chance."""

    fault: str
    chance: float = 0.0


@dataclass(frozen=True)
class CalibrationResult:
    """What calibration found out about the weights of a model.

    Attributes:
        device: where weights are coded with feedback.
        sensitivity: tensor name -> sensitivity; None if it was not measured.
        without_feedback: tensor name -> why the tensor is coded without feedback.
        chance: tensor name -> how much of what the samples say about its inputs is chance, 0 to 1, for all tensors with
            feedback; see `bhk.codec.feedback.feedback_from`.
        insensitive: names of the tensors on which no output depends.
        seconds: wall time of each stage.
    """

    device: torch.device
    sensitivity: Mapping[str, Sensitivity] | None
    without_feedback: Mapping[str, str]
    chance: Mapping[str, float]
    insensitive: tuple[str, ...]
    seconds: Mapping[str, float]
    _load: Callable[[str], Feedback | None] = field(repr=False)

    def feedback(self, name: str) -> Feedback | None:
        """Return the feedback for tensor `name`, or None if it is coded without."""
        return self._load(name)


def calibrate(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    inputs: Inputs,
    *,
    folder: Path,
    fingerprint: Mapping[str, str],
    sensitivity: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> CalibrationResult:
    """Run a model on samples, and record the second moments of each layer's inputs and the sensitivity of the outputs.

    Args:
        model: dense, float32, in eval mode; unchanged afterwards.
        weights: tensor name -> parameter of the model, for all tensors to be coded.
        inputs: at least one sample.
        folder: keeps the results, which may be larger than memory. Interrupted work continues from it.
        fingerprint: everything that the results depend on; see `bhk.base.workdir`.
        sensitivity: whether to measure the sensitivity, which needs gradients.
        seed: for drawing the noise that outputs are projected on.
        progress: called with ("Moments", "Feedback" or "Sensitivity", layers done, all layers); a layer counts once for each
            sample.

    Raises:
        CalibrationError: the model fails, or returns NaN or infinity.
        WorkDirError, WriteError: see `bhk.base.workdir`.
    """
    device = device_of(model)
    work = WorkDir(folder)
    work.claim(fingerprint)
    started = time.perf_counter()
    without = {name: fault for name, weight in weights.items() if (fault := _unfit(name, weight))}
    factors: dict[str, Path] = {}
    chance: dict[str, float] = {}
    groups = list(_groups({name: weight for name, weight in weights.items() if name not in without}))
    for number, names in enumerate(groups):
        path = folder / f"feedback-{number}.safetensors"
        if not path.exists():
            group = {name: weights[name] for name in names}
            part = f" {number + 1}/{len(groups)}" if len(groups) > 1 else ""
            staged = partial(_staged, progress, part)
            moments = _moments(model, group, inputs, folder / f"moments-{number}.safetensors", staged)
            _save(path, _feedbacks(moments, staged))
        notes = _notes(path)
        for name in names:
            note = notes.get(name, _Note(NO_INPUTS))
            if note.fault:
                without[name] = note.fault
            else:
                factors[name], chance[name] = path, note.chance

    def load(name: str) -> Feedback | None:
        return _load(factors[name], name, chance[name], device) if name in factors else None

    seconds = {"moments": time.perf_counter() - started}
    found: dict[str, Sensitivity] | None = None
    if sensitivity:
        started = time.perf_counter()
        found = _sensitivities(model, weights, inputs, load, work, seed, progress)
        seconds["sensitivity"] = time.perf_counter() - started
    insensitive = () if found is None else tuple(name for name in weights if name not in found or not found[name].plain)
    return CalibrationResult(device, found, without, chance, insensitive, seconds, load)


def _staged(progress: Progress, part: str, stage: str, done: int, total: int) -> None:
    progress(stage + part, done, total)


def _unfit(name: str, weight: Tensor) -> str:
    """Return why a tensor of this name and shape can have no feedback; an empty text if it can."""
    if role_of(name, weight) not in ("linear", "conv") or weight.ndim not in (2, 4):
        return NO_LAYER
    odd = weight.ndim == 4 and weight.shape[1:].numel() % 2  # a matrix's rows are padded
    return NO_ROWS if odd else ""


def _groups(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, ...]]:
    """Split the names into groups whose moments fit into MEMORY; a group of one tensor may be larger."""
    names: list[str] = []
    held = 0
    for name, weight in weights.items():
        size = 4 * weight.shape[1:].numel() ** 2
        if names and held + size > MEMORY:
            yield tuple(names)
            names, held = [], 0
        names.append(name)
        held += size
    if names:
        yield tuple(names)


class _Gathered(msgspec.Struct):
    """What `_moments` keeps beside the sums: samples done, and name -> (blocks, squares) of `SecondMoments`."""

    samples: int
    blocks: dict[str, tuple[int, float]]


def _moments(
    model: nn.Module, weights: Mapping[str, Tensor], inputs: Inputs, path: Path, progress: Progress
) -> dict[str, SecondMoments]:
    """Return the second moments of the inputs of `weights` over all samples; keep those so far in `path`."""
    index = 0
    seen: set[str] = set()
    total = len(inputs) * len(weights)

    def added(name: str) -> None:
        if name not in seen:
            seen.add(name)
            progress("Moments", index * len(weights) + len(seen), total)

    moments = Moments(weights, added)
    if path.exists():
        index, moments.found = _resumed(path, device_of(model))
    while index < len(inputs):
        seen.clear()
        progress("Moments", index * len(weights), total)
        with torch.no_grad(), moments, _no_fused_attention():
            inputs.run(model, index)
        index += 1
        if index < len(inputs):
            blocks = {name: (found.blocks, found.squares) for name, found in moments.found.items()}
            gathered = msgspec.json.encode(_Gathered(index, blocks)).decode()
            _write(path, {name: found.total for name, found in moments.found.items()}, {"gathered": gathered})
    progress("Moments", total, total)
    path.unlink(missing_ok=True)
    return moments.found


def _resumed(path: Path, device: torch.device) -> tuple[int, dict[str, SecondMoments]]:
    """Return how many samples are done, and their second moments."""
    with _opened(path, device) as file:
        gathered = msgspec.json.decode(file.metadata()["gathered"], type=_Gathered)
        found = {name: SecondMoments(file.get_tensor(name), *counts) for name, counts in gathered.blocks.items()}
    return gathered.samples, found


@contextlib.contextmanager
def _no_fused_attention() -> Iterator[None]:
    """Switch off torch's fused attention, which hides its matrix products from `Moments`."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _feedbacks(moments: dict[str, SecondMoments], progress: Progress) -> Iterator[tuple[str, Feedback | None]]:
    total = len(moments)
    for done, name in enumerate(list(moments)):
        progress("Feedback", done, total)
        found = moments.pop(name)
        yield name, feedback_from(found.total, found.chance)
    progress("Feedback", total, total)


def _save(path: Path, feedbacks: Iterable[tuple[str, Feedback | None]]) -> None:
    """Write feedback to a file. Its metadata hold a note for each name."""
    tensors: dict[str, Tensor] = {}
    notes: dict[str, _Note] = {}
    for name, feedback in feedbacks:
        if feedback is None:
            notes[name] = _Note(NO_MOMENTS)
        else:
            notes[name] = _Note("", feedback.chance)
            tensors |= {f"{name}.order": feedback.order.cpu(), f"{name}.factor": feedback.factor.cpu()}
    _write(path, tensors, {"notes": msgspec.json.encode(notes).decode()})


def _notes(path: Path) -> dict[str, _Note]:
    with _opened(path) as file:
        return msgspec.json.decode(file.metadata()["notes"], type=dict[str, _Note])


def _load(path: Path, name: str, chance: float, device: torch.device) -> Feedback:
    with _opened(path, device) as file:
        return Feedback(file.get_tensor(f"{name}.order"), file.get_tensor(f"{name}.factor"), chance)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file completely, or leave the old one.

    Raises:
        WriteError: the system refused: no space, no permission.
    """
    new = path.with_suffix(".new")
    try:
        save_file(tensors, new, metadata)
        new.replace(path)
    except (OSError, SafetensorError) as error:
        new.unlink(missing_ok=True)
        raise WriteError(
            f"cannot write {path}: {error}; calibration needs space there, or in a folder of your own: {option('work_dir')}"
        ) from error


@contextlib.contextmanager
def _opened(path: Path, device: torch.device | None = None) -> Iterator[Any]:
    """Open a file that `_write` wrote.

    Raises:
        ReadError: the system cannot read it.
        WorkDirError: the file is damaged, or another program wrote it.
    """
    try:
        with safe_open(path, "pt", device=str(device or "cpu")) as file:
            yield file
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise WorkDirError(f"{path} is not a result of this work ({error}); remove the file") from error


def _sensitivities(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    inputs: Inputs,
    feedback: Callable[[str], Feedback | None],
    work: WorkDir,
    seed: int,
    progress: Progress,
) -> dict[str, Sensitivity]:
    """Return the mean sensitivity of each weight that has a gradient, over the first samples."""
    count = min(MEASURED, len(inputs))
    total = count * len(weights)
    sums: dict[str, Sensitivity] = {}
    for index in range(count):
        progress("Sensitivity", index * len(weights), total)
        name = f"sensitivity-{index}.json"
        found = work.read(name, dict[str, Sensitivity])
        if found is None:

            def measured(done: int, before: int = index * len(weights)) -> None:
                progress("Sensitivity", before + done, total)

            found = measure(model, weights, feedback, partial(inputs.run, model, index), seed + index, measured)
            work.write(name, found)
        for tensor, one in found.items():
            before = sums.get(tensor, Sensitivity(0.0, 0.0))
            sums[tensor] = Sensitivity(before.plain + one.plain / count, before.fed + one.fed / count)
    progress("Sensitivity", total, total)
    return sums
