"""The second step of a conversion: choose the lattice step of each tensor."""

from __future__ import annotations

from collections.abc import Sequence

from bhk.base.progress import Progress
from bhk.conversion.coder import Coder
from bhk.conversion.fidelity_search import snr_for_fidelity
from bhk.conversion.header import overhead, with_layers
from bhk.conversion.prepare import Job
from bhk.conversion.ratio_search import snr_for_ratio
from bhk.conversion.selection import PlannedTensor
from bhk.conversion.steps import StepsBySnr, share_by_sensitivity


def plan(job: Job, coder: Coder, progress: Progress) -> Sequence[PlannedTensor]:
    """Return the tensors of a job with the steps that its quality asks for.

    Raises:
        PresetError: the ratio or the fidelity is out of reach.
    """
    if job.quality.is_published:
        return job.tensors
    tensors = job.tensors
    if coder.sensitivity is not None:
        tensors = share_by_sensitivity(tensors, coder.sensitivity, job.threads)
    steps = StepsBySnr.of(tensors, job.threads)
    return steps.at(_model_snr_db(job, steps, coder, progress))


def _model_snr_db(job: Job, steps: StepsBySnr, coder: Coder, progress: Progress) -> float:
    quality, evidence = job.quality, job.evidence
    if quality.ratio is not None:
        return snr_for_ratio(quality.ratio, steps, overhead(with_layers(job.header, job.tensors)), coder.encode)
    if quality.fidelity is not None and evidence is not None:
        return snr_for_fidelity(quality.fidelity, steps, coder.encode, evidence.model, evidence.pictures, progress)
    return quality.model_snr_db
