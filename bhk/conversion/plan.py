"""The second step of a conversion: choose the lattice step of each tensor."""

from __future__ import annotations

from collections.abc import Sequence

from bhk.base.progress import Progress
from bhk.conversion.coder import Coder
from bhk.conversion.fidelity_search import level_for_fidelity
from bhk.conversion.header import overhead, with_layers
from bhk.conversion.prepare import Job
from bhk.conversion.ratio_search import level_for_ratio
from bhk.conversion.selection import PlannedTensor
from bhk.conversion.snr_search import level_for_snr, with_own_steps
from bhk.conversion.steps import StepsByLevel, share_by_sensitivity


def plan(job: Job, coder: Coder, progress: Progress) -> Sequence[PlannedTensor]:
    """Return the tensors of a job with the steps that its quality asks for.

    Raises:
        PresetError: the quality asked for is out of reach.
    """
    if job.quality.is_published:
        return job.tensors
    tensors = with_own_steps(job.tensors, coder.encode, job.threads)
    if coder.sensitivity is not None:
        tensors = share_by_sensitivity(tensors, coder.sensitivity, job.threads)
    steps = StepsByLevel.of(tensors, job.threads)
    return steps.at(_level_db(job, steps, coder, progress))


def _level_db(job: Job, steps: StepsByLevel, coder: Coder, progress: Progress) -> float:
    quality, evidence = job.quality, job.evidence
    if quality.ratio is not None:
        fixed = overhead(with_layers(job.header, job.tensors))
        return level_for_ratio(quality.ratio, steps, fixed, coder.encode, progress)
    if quality.snr_db is not None:
        return level_for_snr(quality.snr_db, steps, coder.encode, progress)
    if quality.fidelity is not None and evidence is not None:
        return level_for_fidelity(quality.fidelity, steps, coder.encode, evidence.model, evidence.pictures, progress)
    return quality.level_db
