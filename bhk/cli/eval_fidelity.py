"""`bhk eval MODEL --images DIR --against ORIGINAL`: fidelity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhk.cli.output import Output, number

if TYPE_CHECKING:
    from bhk.cli.eval import Results
    from bhk.evaluation.fidelity import Agreement, Fidelity
    from bhk.evaluation.intervals import Estimate
    from bhk.tasks.fidelity import FidelityReport

_COLUMNS = [
    ("masks of", "left"),
    ("number", "right"),
    ("mean IoU", "right"),
    ("95 % interval", "right"),
    ("median", "right"),
    ("1st %ile", "right"),
    ("lowest", "right"),
    ("≥ 0.95", "right"),
    ("boundary IoU", "right"),
    ("score change", "right"),
    ("flips", "right"),
]


def run(
    results: Results,
    model: str,
    images: Path,
    against: str,
    *,
    points: int | None,
    boxes: int | None,
    control: bool,
    common: Mapping[str, Any],
) -> None:
    """Compare a model with its original and say what came out."""
    from bhk.tasks.fidelity import BOXES, POINTS, fidelity

    results.check(model, against)
    with results.output.progress("Evaluating", unit_bytes=False) as progress:
        report = fidelity(
            model,
            images,
            against=against,
            points=POINTS if points is None else points,
            boxes=BOXES if boxes is None else boxes,
            control=control,
            progress=progress,
            **common,
        )
    _print(results.output, report)
    results.give(report, report.skipped)


def _print(output: Output, report: FidelityReport) -> None:
    smaller = "" if report.model.ratio is None else f", {report.model.ratio:.2f} times smaller"
    skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
    pictures = f"{report.pictures} picture{'' if report.pictures == 1 else 's'}{skipped}"
    output.line(f"{report.model.path}{smaller}, against {report.original.path}: {pictures}")
    rows = list(_rows(report.fidelity, ""))
    if report.control is not None:
        rows += _rows(report.control, "control: ")
    output.table(_COLUMNS, rows)
    output.line(f"image embedding: {_embedding(report.fidelity)}")
    if report.control is not None:
        output.line(f"control, the original in bfloat16: {_embedding(report.control)}")
    if report.fidelity.all.empty:
        output.line(f"{report.fidelity.all.empty:.1%} of the masks are empty in both models, and count as IoU 1")


def _rows(fidelity: Fidelity, prefix: str) -> Iterator[tuple[str, ...]]:
    groups = {
        "points": fidelity.points,
        "boxes": fidelity.boxes,
        "boxes, single mask": fidelity.single,
        "all": fidelity.all,
    }
    for name, agreement in groups.items():
        if agreement is not None:
            yield prefix + name, *_cells(agreement)


def _cells(agreement: Agreement) -> tuple[str, ...]:
    return (
        f"{agreement.masks:,}",
        number(agreement.iou_mean.value, 4),
        _interval(agreement.iou_mean, 4),
        number(agreement.iou_median.value, 4),
        number(agreement.iou_percentile, 4),
        number(agreement.iou_min, 4),
        number(100 * agreement.faithful.value, 1, " %"),
        number(agreement.boundary_iou.value, 4),
        f"{agreement.score_change.value:+.4f}",
        number(100 * agreement.flips.value, 1, " %") if agreement.flips else "–",
    )


def _embedding(fidelity: Fidelity) -> str:
    cosine = fidelity.embedding_cosine
    lowest = number(fidelity.embedding_cosine_min, 5)
    return f"cosine {number(cosine.value, 5)} ({_interval(cosine, 5)}), lowest {lowest}"


def _interval(estimate: Estimate, digits: int) -> str:
    return f"{number(estimate.low, digits)} … {number(estimate.high, digits)}"
