"""Conditions on an evaluation that make `bhk eval` end with status 1 where they are not met."""

from __future__ import annotations

from collections.abc import Iterator

from bhk.evaluation.report import ComparedReport
from bhk.evaluation.results import AccuracyReport, FidelityReport
from bhk.evaluation.several import EvaluationReport


def not_met(report: ComparedReport, min_iou: float | None, max_drop: float | None) -> str | None:
    """Return which model misses a condition, and by how much; None if all meet both.

    Args:
        report: of one or several models.
        min_iou: smallest mean IoU of all masks with the original's, or of each kind of prompt with annotated objects.
        max_drop: largest drop of AP, or of mIoU where there is no AP, in percent of the original's.
    """
    for single in report.reports if isinstance(report, EvaluationReport) else (report,):
        for name, iou in _ious(single):
            if min_iou is not None and not iou >= min_iou:
                return f"{name} is {iou:.4f}, less than {min_iou:g}"
        for name, drop in _drops(single):
            if max_drop is not None and not drop <= max_drop:
                return f"{name} is {drop:.2f} %, more than {max_drop:g} %"
    return None


def _ious(report: ComparedReport) -> Iterator[tuple[str, float]]:
    if isinstance(report, FidelityReport):
        yield f"{report.model.path}: the mean IoU of all masks", report.fidelity.all.iou_mean.value
    elif isinstance(report, AccuracyReport):
        for entry in report.accuracy:
            if entry.miou is not None:
                yield f"{report.model.path}: the mIoU, prompted by {entry.prompt},", entry.miou.value


def _drops(report: ComparedReport) -> Iterator[tuple[str, float]]:
    if not isinstance(report, AccuracyReport):
        return
    for drop in report.drops:
        name, estimate = ("mIoU", drop.miou) if drop.ap is None else ("AP", drop.ap)
        if estimate is not None:
            yield f"{report.model.path}: the drop of {name}, prompted by {drop.prompt},", 100 * estimate.value
