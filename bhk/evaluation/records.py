"""Results as rows of numbers, for spreadsheets, statistics programs and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bhk.evaluation.accuracy_summary import Drop, PromptAccuracy
from bhk.evaluation.average_precision import Precision
from bhk.evaluation.fidelity_summary import FAITHFUL, Fidelity
from bhk.evaluation.files import Record, RecordColumn
from bhk.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from bhk.evaluation.results import AccuracyReport, EvaluatedModel, FidelityReport

INTERVALS = "brackets: 95 % bootstrap intervals over pictures"

FIDELITY_COLUMNS = (
    RecordColumn("model", "model", side="left", least=12),
    RecordColumn("times_smaller", "times smaller", digits=2, rank=1),
    RecordColumn("masks_of", "masks of", side="left"),
    RecordColumn("iou_mean", "mean IoU"),
    RecordColumn("faithful", f"IoU ≥ {FAITHFUL}, %", digits=1, percent=True, rank=2),
    RecordColumn("boundary_iou", "boundary IoU", rank=3),
)
COMPARISON_COLUMNS = (
    RecordColumn("quality", "quality", side="left"),
    RecordColumn("bytes", "bytes"),
    RecordColumn("times_smaller", "times smaller", digits=2),
    RecordColumn("snr_db", "SNR, dB", digits=1),
    RecordColumn("points_iou", "points IoU"),
    RecordColumn("boxes_iou", "boxes IoU"),
    RecordColumn("texts_iou", "texts IoU"),
)
ACCURACY_COLUMNS = (
    RecordColumn("model", "model", side="left", least=12),
    RecordColumn("times_smaller", "times smaller", digits=2, rank=1),
    RecordColumn("prompt", "prompt", side="left"),
    RecordColumn("miou", "mIoU", rank=2),
    RecordColumn("ap", "AP", rank=2),
    RecordColumn("miou_drop", "drop of mIoU, %", digits=2, percent=True),
    RecordColumn("ap_drop", "drop of AP, %", digits=2, percent=True),
)


def model_cells(model: EvaluatedModel) -> Record:
    """Return the columns about a model."""
    return {"model": model.name, "times_smaller": model.ratio, "bytes": model.bytes, "sha256": model.sha256}


def measured_with(report: FidelityReport | AccuracyReport) -> Record:
    """Return the columns that are the same in each row of a report."""
    settings = report.settings
    return {
        "original": report.original.name if report.original else None,
        "pictures": report.pictures,
        "seed": settings.seed,
        "mode": settings.mode,
        "compute": settings.compute,
        "dtype": str(settings.dtype),
        "bhk": report.generator.removeprefix("bhk "),
        **asdict(report.environment),
    }


def fidelity_records(fidelity: Fidelity) -> Iterator[Record]:
    """Yield the columns of each group of masks; those of the embedding are in the row of all masks."""
    for name, found in fidelity.groups.items():
        row = {
            "masks_of": name,
            "masks": found.masks,
            **spread("iou_mean", found.iou_mean),
            **spread("iou_median", found.iou_median),
            "iou_first_percentile": found.iou_percentile,
            "iou_min": found.iou_min,
            **spread("faithful", found.faithful),
            **spread("boundary_iou", found.boundary_iou),
            **spread("score_change", found.score_change),
            **spread("flips", found.flips),
            "empty": found.empty,
        }
        if found is fidelity.all:
            row |= spread("embedding_cosine", fidelity.embedding_cosine)
        yield row


def accuracy_records(accuracy: Sequence[PromptAccuracy], drops: Sequence[Drop]) -> Iterator[Record]:
    """Yield the columns of each kind of prompt, with the drops against the original if there are any."""
    dropped = {drop.prompt: drop for drop in drops}
    for found in accuracy:
        drop = dropped.get(found.prompt)
        yield {
            "prompt": found.prompt,
            "masks": found.masks,
            **spread("miou", found.miou),
            **spread("miou_small", found.small),
            **spread("miou_medium", found.medium),
            **spread("miou_large", found.large),
            **spread("miou_oracle", found.oracle),
            **_precision(found.precision),
            **spread("miou_drop", drop.miou if drop else None),
            **spread("ap_drop", drop.ap if drop else None),
        }


def spread(name: str, estimate: Estimate | None) -> dict[str, str | int | float | None]:
    """Return an estimate as three columns: its value, and the ends of its interval."""
    value, low, high = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _precision(found: Precision | None) -> Record:
    names = ("ap", "ap50", "ap75", "small", "medium", "large", "rare", "common", "frequent")
    return {name if name.startswith("ap") else f"ap_{name}": getattr(found, name, None) for name in names}
