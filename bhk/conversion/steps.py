"""The lattice step of each tensor, from the level of the whole model.

The model's level in dB tells how far step^2 / 12, the power of rounding errors, lies below the power of the weights of a
typical tensor. Parts of a model lie above or below it, so it is not the signal-to-noise ratio of all weights together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bhk.base.parallel import ordered_map
from bhk.calibration.sensitivity import Sensitivity
from bhk.codec.fit import (
    LEVEL_RANGE_DB,
    PART_DB,
    Spread,
    model_scale,
    spread_of,
    step_for,
    tensor_step,
    upper_scale,
)
from bhk.conversion.selection import PlannedTensor

# Measurement may find that a tensor hardly matters. It assumes small errors, so its steps go no coarser than this.
MEASURED_FLOOR_DB = 4.0
DELICATE_FLOOR_DB = 30.0  # for vectors and small tables: coarser steps would save next to nothing
# Measured steps are this much finer than small errors on synthetic samples call for. Without it, at preset `balanced`, masks of
# the demo SAM differ from the original's 1.3 times as much as with plain rounding, and those of another small SAM 1.4 times.
MARGIN_DB = 2.5
STEP_GRID_DB = 0.5  # measured steps lie on this grid, so that layers of equal step can share a codebook in the header
NOMINAL_LEVEL_DB = 28.0  # where steps are shared out; at other levels the floors shift the balance by little


@dataclass(frozen=True)
class SampledTensor:
    """A tensor to be coded, and what a sample of its weights shows. The sample itself is not kept: those of a large model take
    hundreds of megabytes, and between larger tensors that come and go they keep the system from taking memory back.

    Attributes:
        planned: the tensor.
        spread: how far the weights lie apart.
    """

    planned: PlannedTensor
    spread: Spread


@dataclass(frozen=True)
class StepsByLevel:
    """The lattice steps of all tensors as a function of the model's level.

    Attributes:
        tensors: all of them.
        sampled: those to be coded.
        scale: robust scale of the model's weights.
        upper_scale: that of the part far above it; 0 if there is no such part.
        threads: number of worker threads.
    """

    tensors: Sequence[PlannedTensor]
    sampled: Sequence[SampledTensor]
    scale: float
    upper_scale: float
    threads: int

    @classmethod
    def of(cls, tensors: Sequence[PlannedTensor], threads: int) -> StepsByLevel:
        """Sample the tensors that are to be coded."""
        sampled = list(ordered_map(_sample, (planned for planned in tensors if planned.coded), threads))
        scales = [(entry.spread.whole, entry.planned.numel) for entry in sampled if not entry.planned.delicate]
        scale = model_scale(scales)
        return cls(tensors, sampled, scale, upper_scale(scales, scale), threads)

    @property
    def level_range_db(self) -> tuple[float, float]:
        """The lowest and the highest level of the model; beyond them, no step changes."""
        free = (entry.planned for entry in self.sampled if entry.planned.step is None)
        finer = [planned.finer_db for planned in free if not planned.delicate]
        low, high = LEVEL_RANGE_DB
        return low - max([0.0, *finer]), high - min([0.0, *finer])

    def at(self, level_db: float) -> list[PlannedTensor]:
        """Return all tensors with their steps at a level of the model."""
        found = {entry.planned.name: self.planned(entry, level_db) for entry in self.sampled}
        return [found.get(planned.name, planned) for planned in self.tensors]

    def planned(self, entry: SampledTensor, level_db: float) -> PlannedTensor:
        """Return one tensor with its step at a level of the model, or kept exact if codes are not fine enough for it."""
        step = self.step_of(entry, level_db)
        return replace(entry.planned, step=step, coded=step > 0 or not entry.planned.delicate)

    def step_of(self, entry: SampledTensor, level_db: float) -> float:
        """Return the step of one tensor at a level of the model: its own if it has one already; 0 if it is kept exact."""
        planned = entry.planned
        if planned.step is not None:
            return planned.step
        low, high = LEVEL_RANGE_DB
        level_db += planned.finer_db
        measured = step_for(self.scale, level_db)
        finest = step_for(entry.spread.whole, high)
        if planned.delicate:
            coarsest = step_for(entry.spread.narrow, DELICATE_FLOOR_DB)
            return min(measured, coarsest) if planned.measured and measured >= finest else 0.0
        if planned.measured and entry.spread.whole > 0:
            return min(max(measured, finest), step_for(entry.spread.narrow, MEASURED_FLOOR_DB))
        is_upper = entry.spread.whole >= self.scale * 10 ** (PART_DB / 20)
        scale = self.upper_scale if is_upper and self.upper_scale else self.scale
        return tensor_step(scale, entry.spread, min(max(level_db, low), high))


def share_by_sensitivity(
    tensors: Sequence[PlannedTensor], sensitivity: Mapping[str, Sensitivity], threads: int
) -> tuple[PlannedTensor, ...]:
    """Return the tensors with steps that change the outputs as much as before, in as few bits as that takes.

    Let k be a weight's sensitivity: the squared change of the outputs per squared error. The outputs change by the sum of
    k step^2 over all weights, and a weight takes -log2(step) bits plus a constant. The sum of bits is least if k step^2 is
    equal for all weights (reverse water-filling; Cover and Thomas 2006, section 10.3.3). Its level is set so that, at
    NOMINAL_LEVEL_DB, the expected change is that of plain rounding with the tensors' present steps, less a margin.

    Args:
        tensors: all of them; `finer_db` gives the present steps.
        sensitivity: by tensor name; tensors without one keep their steps.
        threads: number of worker threads.
    """
    known = {name: found for name, found in sensitivity.items() if found.plain > 0 and found.fed > 0}
    plain = StepsByLevel.of(tensors, threads)
    steps = {planned.name: planned.step for planned in plain.at(NOMINAL_LEVEL_DB)}
    weights = change = 0.0
    for entry in plain.sampled:
        name, numel, step = entry.planned.name, entry.planned.numel, steps[entry.planned.name]
        if name in known and step and not entry.planned.delicate:
            weights += numel
            change += numel * known[name].plain * (step / step_for(plain.scale, NOMINAL_LEVEL_DB)) ** 2

    if not change:  # no sensitive tensor, or only tensors whose weights are all equal
        return tuple(tensors)

    def finer_db(name: str) -> float:
        exact = MARGIN_DB + 10 * math.log10(known[name].fed * weights / change)
        return round(exact / STEP_GRID_DB) * STEP_GRID_DB

    return tuple(
        replace(planned, finer_db=finer_db(planned.name), measured=True)
        if planned.coded and planned.name in known
        else planned
        for planned in tensors
    )


def _sample(planned: PlannedTensor) -> SampledTensor:
    return SampledTensor(planned, spread_of(planned.tensor))
