"""Ideas for smaller calibrated files, each tried outside the format: a coder whose files only this module reads.

All share what bhk does: steps by measured sensitivity, error feedback, a byte for a pair where that fits, zstd. One thing at a
time differs:

    point in the middle     a lattice with a point at 0, where bhk's has 0 between two points
    dead zone               rounding towards 0, which makes codes cheaper: the rate term of video coders
    steps by row            finer where the outputs depend more on a row (as GuidedQuant and YAQA weigh outputs)
    steps by column         finer where inputs are stronger, after feedback (WaterSIC)
    trellis                 8 states run down each column choose between two lattices (Ungerboeck's code)
    inputs of the coded model   feedback also compensates the errors of earlier layers (Qronos)

Rows and columns of one step are coded as groups, each with its own table, without which their gain is lost again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from bhk.base.progress import silent
from bhk.calibration.inputs import Inputs
from bhk.calibration.model import CalibrationModel
from bhk.calibration.moments import Moments, SecondMoments
from bhk.calibration.options import Calibration
from bhk.calibration.sensitivity import measure
from bhk.codec.feedback import BLOCK, DAMPING, Feedback, feedback_from
from bhk.codec.streams import Stream, Window, byte_stream, decompress, plane_stream
from bhk.conversion.coder import coder_for
from bhk.conversion.plan import plan
from bhk.conversion.prepare import prepare
from bhk.conversion.quality import Quality
from tools.bench.coders.base import StateDict, TensorCoder
from tools.bench.coders.trellis import decode_column, encode_column

Ints = npt.NDArray[np.int64]

GRID_DB = 3.01  # of steps by row and by column, so that few groups are needed
MOST_DB = 18.0  # between the step of a tensor and that of one of its rows or columns
ROW_FLOOR_DB = 1.0  # of a row, below the power of its weights
DAMPED = 0.05  # share of equal sensitivity in that of rows
SAMPLES_OF_ROWS = 2
PARTS = ("order", "factor", "rows", "target")  # what is known about a tensor


@dataclass(frozen=True)
class Idea(TensorCoder):
    """An idea, or several together.

    Attributes:
        evidence: the file of `write_evidence`.
        idea: what it is called.
        level_db: how much finer all steps are than those of the preset `balanced`.
        offset: of the lattice from 0, in steps.
        dead_zone: how much closer to 0 codes are rounded, in steps.
        rows, columns: exponents of the sensitivity in steps by row and by column: 0.5 is optimal for small errors.
        trellis: whether a trellis chooses the codes.
    """

    evidence: Path
    level_db: float = 0.0
    idea: str = "as bhk"
    offset: float = 0.5
    dead_zone: float = 0.0
    rows: float = 0.0
    columns: float = 0.0
    trellis: bool = False
    name: str = "study"
    package: str = "bhk"
    note: str = "a study, no format"

    @property
    def setting(self) -> str:
        return f"{self.idea}, {self.level_db:+g} dB"

    def encode(self, source: Path, target: Path) -> None:
        with safe_open(self.evidence, "pt") as file:
            coded = json.loads(file.metadata()["steps"])
        weights = load_file(source)
        stored = {name: tensor for name, tensor in weights.items() if name not in coded}
        for name in coded:
            stored |= {f"{name}/{key}": part for key, part in self.code(name, weights[name]).items()}
        shapes = json.dumps({name: list(weights[name].shape) for name in coded})
        save_file(stored, target, metadata={"shapes": shapes})

    def code(self, name: str, tensor: Tensor) -> StateDict:
        with safe_open(self.evidence, "pt") as file:
            found = {key: file.get_tensor(f"{name}/{key}") for key in PARTS if f"{name}/{key}" in file.keys()}  # noqa: SIM118
            step = json.loads(file.metadata()["steps"])[name] * 10 ** (-self.level_db / 20)
        matrix = found.get("target", tensor.float().flatten(1) if tensor.ndim > 1 else tensor.float()[None])
        matrix = functional.pad(matrix, (0, matrix.shape[1] % 2))
        feedback = Feedback(found["order"], found["factor"]) if "factor" in found else None
        row, column = self._row_steps(matrix, step, found.get("rows")), self._column_steps(matrix, feedback)
        steps = step * 2.0 ** ((row[:, None] + column[None]) / 2)
        codes = self._codes(matrix, steps, feedback)
        streams, groups = [], []
        for one in _groups(row, column):
            chunk, low = _streams(codes[np.ix_(*one)])
            streams += chunk
            groups.append([*low, [(stream.window or Window(0, 0, 0)).phases for stream in chunk]])
        frames = [stream.chunks[0] for stream in streams]
        about = {"step": step, "low": groups, "stored": [len(frame) for frame in frames]}
        parts = {"about": json.dumps(about, separators=(",", ":")).encode(), "codes": b"".join(frames)}
        parts |= {"row": _packed(row)} if row.any() else {}
        parts |= {"column": _packed(column[::2])} if column.any() else {}
        return {key: torch.frombuffer(bytearray(data), dtype=torch.uint8) for key, data in parts.items()}

    def values(self, parts: StateDict, shape: list[int]) -> Tensor:
        about = json.loads(bytes(parts["about"].numpy()))
        rows = shape[0] if len(shape) > 1 else 1
        columns = math.prod(shape) // rows
        padded = columns + columns % 2
        row = _unpacked(parts["row"], rows) if "row" in parts else np.zeros(rows, np.int64)
        column = _unpacked(parts["column"], padded // 2).repeat(2) if "column" in parts else np.zeros(padded, np.int64)
        codes = np.empty((rows, padded), np.int64)
        frames = iter(np.split(parts["codes"].numpy(), np.cumsum(about["stored"])[:-1]))
        for one, (*low, phases) in zip(_groups(row, column), about["low"], strict=True):
            shaped = len(one[0]), len(one[1]) // 2
            codes[np.ix_(*one)] = _pairs([bytes(next(frames)) for _ in phases], low, phases[0], shaped)
        points = np.stack([decode_column(one) for one in codes.T], 1) if self.trellis else codes + self.offset
        weights = points * (about["step"] * 2.0 ** ((row[:, None] + column[None]) / 2))
        return torch.from_numpy(weights[:, :columns].astype(np.float32)).reshape(shape)

    def _row_steps(self, matrix: Tensor, step: float, sensitivity: Tensor | None) -> Ints:
        """Return by how many GRID_DB the step of each row is longer."""
        if not self.rows or sensitivity is None or not float(sensitivity.sum()) > 0:
            return np.zeros(len(matrix), np.int64)
        relative = (1 - DAMPED) * (sensitivity / sensitivity.mean()).double() + DAMPED
        longer_db = -20 * self.rows * relative.log10()
        longer_db -= 10 * (relative * 10 ** (longer_db / 10)).mean().log10()  # as much change of the outputs as before
        coarsest = matrix.double().square().mean(1).sqrt() * math.sqrt(12) / step
        most = torch.minimum(20 * coarsest.clamp_min(1e-9).log10() - ROW_FLOOR_DB, torch.tensor(MOST_DB))
        return _on_grid(torch.minimum(longer_db, most).clamp_min(-MOST_DB))

    def _column_steps(self, matrix: Tensor, feedback: Feedback | None) -> Ints:
        """Return by how many GRID_DB the step of each column is longer; both columns of a pair have one step."""
        if not self.columns or feedback is None:
            return np.zeros(matrix.shape[1], np.int64)
        longer_db = torch.empty(matrix.shape[1], dtype=torch.float64)
        longer_db[feedback.columns] = 20 * self.columns * feedback.factor.diagonal().double().log10()
        of_pairs = longer_db.view(-1, 2).mean(1)
        steps = _on_grid((of_pairs - of_pairs.mean()).clamp(-MOST_DB, MOST_DB))
        return steps.repeat(2)

    def _codes(self, matrix: Tensor, steps: npt.NDArray[np.float64], feedback: Feedback | None) -> Ints:
        """Return codes (rows, columns)."""
        order = torch.arange(matrix.shape[1]) if feedback is None else feedback.columns
        factor = torch.eye(len(order)) if feedback is None else feedback.factor
        rest, scale = matrix.T[order], torch.from_numpy(steps.astype(np.float32)).T[order]
        codes = np.empty(rest.shape, np.int64)
        for start in range(0, len(rest), BLOCK):
            block, inner = rest[start : start + BLOCK], factor[start : start + BLOCK, start:]
            errors = torch.empty_like(block)
            for at in range(len(block)):
                length = scale[start + at]
                codes[start + at], point = self._rounded((block[at] / length).numpy())
                errors[at] = (block[at] - torch.from_numpy(point) * length) / inner[at, at]
                block[at + 1 :].addr_(inner[at, at + 1 : len(block)], errors[at], alpha=-1)
            rest[start + BLOCK :].addmm_(inner[:, BLOCK:].T, errors, alpha=-1)
        ordered = np.empty_like(codes)
        ordered[order.numpy()] = codes
        return ordered.T

    def _rounded(self, x: npt.NDArray[np.float32]) -> tuple[Ints, npt.NDArray[np.float32]]:
        """Return the codes of weights in steps, and the points that they stand for."""
        if self.trellis:
            codes = encode_column(x)
            return codes, decode_column(codes).astype(np.float32)
        if self.dead_zone:
            codes = (np.sign(x) * np.floor(np.abs(x) + 0.5 - self.dead_zone)).astype(np.int64)
        else:
            codes = np.rint(x - self.offset).astype(np.int64)
        return codes, (codes + self.offset).astype(np.float32)


def _on_grid(decibels: Tensor) -> Ints:
    return (decibels / GRID_DB).round().long().numpy()


def _groups(row: Ints, column: Ints) -> list[tuple[Ints, Ints]]:
    """Return the rows and the columns of each group."""
    return [(np.flatnonzero(row == r), np.flatnonzero(column == c)) for r in np.unique(row) for c in np.unique(column)]


def _streams(codes: Ints) -> tuple[list[Stream], list[int]]:
    """Return the smallest streams of codes (rows, columns), and the lowest code of the first and second columns of pairs."""
    pairs = codes.reshape(-1, 2)
    low = pairs.min(0)
    places = np.ascontiguousarray((pairs - low).T)
    first, second = places.astype(np.uint8)  # their low bytes
    planes = [plane_stream("winding", first), plane_stream("phase", second)]
    if places.max() > 255:
        high = (places >> 8).astype(np.uint8)
        return [*planes, plane_stream("winding", high[0]), plane_stream("phase", high[1])], low.tolist()
    window = Window.around(first, second)
    one = [byte_stream(first, second, window)] if window else planes
    return min(planes, one, key=lambda streams: sum(stream.stored for stream in streams)), low.tolist()


def _pairs(frames: list[bytes], low: list[int], phases: int, shape: tuple[int, int]) -> Ints:
    planes = [decompress(frame, math.prod(shape)) for frame in frames]
    if len(planes) == 1:
        planes = list(Window(0, 0, phases).planes(planes[0]))
    places = np.stack(planes[:2], 1).astype(np.int64)
    if len(planes) == 4:
        places += np.stack(planes[2:], 1).astype(np.int64) << 8
    return (places + low).reshape(shape[0], -1)


def _packed(steps: Ints) -> bytes:
    return plane_stream("winding", (steps + 128).astype(np.uint8)).chunks[0]


def _unpacked(part: Tensor, count: int) -> Ints:
    return decompress(bytes(part.numpy()), count).astype(np.int64) - 128


class _ByRow(Feedback):
    """Feedback that keeps how the outputs change with each row."""

    rows: Tensor

    def output_change(self, gradient: Tensor) -> float:
        padded = functional.pad(gradient.float(), (0, len(self.factor) - gradient.shape[1]))[:, self.columns]
        object.__setattr__(self, "rows", (padded @ (self.factor / self.factor.diagonal()[:, None]).T).square().sum(1))
        return super().output_change(gradient)


def write_evidence(source: Path, calibration: Calibration, target: Path) -> None:
    """Write what the ideas need to know about a checkpoint: steps, feedback, and sensitivity by row."""
    job = prepare(source, target, Quality(), calibration, key=None, metadata={}, threads=1, force=True, dry_run=True)
    found: dict[str, Tensor] = {}
    with coder_for(job, silent) as coder:
        planned = [one for one in plan(job, coder, silent) if one.coded and one.step]
        assert coder.calibration is not None
        feedback = {one.name: coder.calibration.feedback(one.name) for one in planned}
    for name, one in feedback.items():
        if one is not None:
            found |= {f"{name}/order": one.order, f"{name}/factor": one.factor}
    assert job.evidence is not None
    assert job.evidence.inputs is not None
    for name, rows in _sensitivity_by_row(job.evidence.model, job.evidence.inputs, feedback).items():
        found[f"{name}/rows"] = rows
    save_file(found, target, {"steps": json.dumps({one.name: one.step for one in planned})})


def _weights(model: CalibrationModel, names: Collection[str]) -> dict[str, Tensor]:
    parameters = dict(model.module.named_parameters())
    return {stored: parameters[own] for own, stored in model.names.items() if stored in names}


def _sensitivity_by_row(
    model: CalibrationModel, inputs: Inputs, feedback: dict[str, Feedback | None]
) -> dict[str, Tensor]:
    recording = {name: _ByRow(one.order, one.factor, one.chance) for name, one in feedback.items() if one is not None}
    weights = _weights(model, recording)
    sums: dict[str, Tensor] = {}
    for index in range(min(SAMPLES_OF_ROWS, len(inputs))):
        seen = measure(model.module, weights, recording.get, lambda: inputs.run(model.module, index), index)  # noqa: B023
        for name in seen:
            sums[name] = sums.get(name, torch.zeros(())) + recording[name].rows
    return sums


class _Inputs(Moments):
    """Keeps the inputs of each product."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        super().__init__(parameters)
        self.kept: dict[str, list[Tensor]] = {}

    def _add(self, name: str, inputs: Tensor) -> None:
        self.kept.setdefault(name, []).append(inputs[:: max(1, len(inputs) // 2048)].float().clone())


def write_evidence_of_coded(source: Path, calibration: Calibration, evidence: Path, idea: Idea, target: Path) -> None:
    """Write evidence whose feedback compensates the errors of earlier layers, too.

    With inputs x of a layer in the original and y in the coded model, W x - V y is smallest around
    V = W (sum x y^T) inverse(sum y y^T), and feedback follows the second moments of y.
    """
    job = prepare(source, target, Quality(), calibration, key=None, metadata={}, threads=1, force=True, dry_run=True)
    assert job.evidence is not None
    assert job.evidence.inputs is not None
    model, inputs = job.evidence.model, job.evidence.inputs
    known: dict[str, Any] = load_file(evidence)
    weights = _weights(model, {name.removesuffix("/factor") for name in known if name.endswith("/factor")})
    original = {name: weight.detach().clone() for name, weight in weights.items()}
    coded_file = target.with_suffix(".coded")
    idea.encode(source, coded_file)
    coded = idea.decode(coded_file)
    moments, cross = dict[str, SecondMoments](), dict[str, Tensor]()
    for index in range(len(inputs)):
        seen = []
        for values in (original, coded):
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(values[name])
                with _Inputs(weights) as kept:
                    inputs.run(model.module, index)
            seen.append(kept.kept)
        for name, calls in seen[1].items():
            for before, after in zip(seen[0][name], calls, strict=True):
                moments.setdefault(name, SecondMoments(after.new_zeros(after.shape[1], after.shape[1]))).add(after, 1)
                cross[name] = cross.get(name, torch.zeros(())) + (before - after).T @ after
    with safe_open(evidence, "pt") as file:
        metadata = file.metadata()
    for name, one in moments.items():
        feedback = feedback_from(one.total, one.chance)
        if feedback is None:
            continue
        total = one.total.double() * (1 - one.chance)
        total.diagonal().add_((one.chance + DAMPING) * one.total.diagonal().double().mean())
        weight = original[name].flatten(1)
        shift = torch.linalg.solve(total, (weight.double() @ cross[name].double()).T).T * (1 - one.chance)
        known |= {f"{name}/order": feedback.order, f"{name}/factor": feedback.factor}
        known[f"{name}/target"] = (weight + shift).float().contiguous()
    save_file(known, target, metadata)
