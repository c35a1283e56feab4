"""`bhk eval MODEL --images DIR --annotations FILE`: accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhk.cli.output import Output, number

if TYPE_CHECKING:
    from bhk.cli.eval import Results
    from bhk.evaluation.accuracy_figures import PromptAccuracy
    from bhk.evaluation.average_precision import Precision
    from bhk.evaluation.intervals import Estimate
    from bhk.tasks.accuracy import AccuracyReport

_MIOU = [("asked by", "left"), ("masks", "right"), ("mIoU", "right"), ("95 % interval", "right")]
_AREAS = [("small", "right"), ("medium", "right"), ("large", "right"), ("oracle", "right")]
_AP = [(name, "right") for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
_AP_LVIS = [(name, "right") for name in ("APr", "APc", "APf")]


@dataclass(frozen=True)
class Truth:
    """What a model is measured against, as the options say it.

    Attributes:
        annotations: None: beside the pictures (SA-1B).
        format: None: told from the content.
        prompts: kinds of prompts; None: all.
        detections: boxes of a detector.
        multimask: take the multimask output.
    """

    annotations: Path | None
    format: str | None
    prompts: Sequence[str] | None
    detections: Path | None
    multimask: bool

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return self.annotations is not None or self.format is not None


def run(
    results: Results, model: str, images: Path, against: str | None, truth: Truth, *, common: Mapping[str, Any]
) -> None:
    """Measure a model against ground truth and say what came out."""
    from bhk.tasks.accuracy import PROMPTS, accuracy

    results.check(model, against, truth.annotations, truth.detections)
    with results.output.progress("Evaluating", unit_bytes=False) as progress:
        report = accuracy(
            model,
            images,
            truth.annotations,
            format=truth.format,
            prompts=PROMPTS if truth.prompts is None else truth.prompts,  # type: ignore[arg-type]
            detections=truth.detections,
            output="multi" if truth.multimask else "single",
            against=against,
            progress=progress,
            **common,
        )
    _print(results.output, report)
    results.give(report, ())


def _print(output: Output, report: AccuracyReport) -> None:
    smaller = "" if report.model.ratio is None else f", {report.model.ratio:.2f} times smaller"
    which = "best scored mask of the multimask output" if report.settings.output == "multi" else "single mask"
    output.line(
        f"{report.model.path}{smaller}: {report.pictures} pictures, {report.objects} objects of {report.annotations} "
        f"({report.annotation_format}); {which}"
    )
    groups = [("", report.accuracy), ("original: ", report.original_accuracy)]
    rows = [(prefix + found.prompt, found) for prefix, group in groups for found in group]
    output.table(_MIOU + _AREAS, [(name, *_miou(found)) for name, found in rows])
    judged = [(name, found.precision) for name, found in rows if found.precision is not None]
    if judged:
        lvis = report.annotation_format == "lvis"
        columns = [("asked by", "left"), *_AP, *(_AP_LVIS if lvis else [])]
        output.table(columns, [(name, *_precision(found, lvis)) for name, found in judged])
    for drop in report.drops:
        output.line(
            f"relative drop of mIoU, asked by {drop.prompt}: {_percent(drop.miou.value)} "
            f"({_percent(drop.miou.low)} … {_percent(drop.miou.high)})"
        )
    for fault in report.faults:
        output.hint(f"{fault.count:,} × {fault.kind.value}; such as {'; '.join(fault.examples)}")


def _miou(found: PromptAccuracy) -> Iterator[str]:
    yield f"{found.masks:,}"
    yield _value(found.miou)
    yield "–" if found.miou is None else f"{number(found.miou.low, 4)} … {number(found.miou.high, 4)}"
    yield from map(_value, (found.small, found.medium, found.large, found.oracle))


def _precision(found: Precision, lvis: bool) -> list[str]:
    figures = [found.ap, found.ap50, found.ap75, found.small, found.medium, found.large]
    if lvis:
        figures += [found.rare, found.common, found.frequent]
    return [number(figure, 4) for figure in figures]


def _value(estimate: Estimate | None) -> str:
    return number(None if estimate is None else estimate.value, 4)


def _percent(share: float) -> str:
    return number(100 * share, 2, " %")
