"""`bhk eval`."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bhk.cli import eval_accuracy, eval_fidelity
from bhk.cli.options import (
    Compute,
    ComputeOption,
    Device,
    Dtype,
    DtypeOption,
    Force,
    Json,
    Mode,
    ModelPath,
    ModeOption,
    Quiet,
)
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.evaluation.results import Skipped
    from bhk.tasks.accuracy import AccuracyReport
    from bhk.tasks.fidelity import FidelityReport

_NAMED = 5  # skipped pictures


class Format(str, enum.Enum):
    """Of annotations."""

    coco = "coco"
    lvis = "lvis"
    sa1b = "sa1b"


@dataclass(frozen=True)
class Results:
    """Where the result of an evaluation goes.

    Attributes:
        path: of the JSON document; None for none.
    """

    path: Path | None
    force: bool
    output: Output

    def check(self, *sources: str | Path | None) -> None:
        """Raise before any work is done if the file cannot be written."""
        from bhk.base.files import check_destination

        if self.path is not None:
            check_destination(self.path, force=self.force, sources=tuple(Path(source) for source in sources if source))

    def give(self, report: FidelityReport | AccuracyReport, skipped: tuple[Skipped, ...]) -> None:
        """Write the document, name pictures that were left out, and print the document when it is JSON that is asked."""
        from bhk.evaluation.results import document, write_document

        source, original = report.model.source_sha256, report.original
        if source is not None and original is not None and source != original.sha256:
            self.output.hint(
                f"warning: {report.model.path} was made from other weights (SHA-256 {source[:12]}…) than {original.path} "
                f"({original.sha256[:12]}…)"
            )
        for picture in skipped[:_NAMED]:
            self.output.hint(f"skipped {picture.name}: {picture.reason}")
        if len(skipped) > _NAMED:
            self.output.hint(f"skipped {len(skipped) - _NAMED} more pictures; --out and --json name them all")
        if self.path is not None:
            write_document(report, self.path, force=self.force)
            self.output.line(f"{self.path}: the whole result")
        self.output.document(document(report))


def evaluate(
    model: ModelPath,
    images: Annotated[Path, typer.Option(metavar="DIR", help="A folder of pictures; those below it count.")],
    against: Annotated[
        str | None, typer.Option(metavar="ORIGINAL", help="The checkpoint it was made from, to compare masks with.")
    ] = None,
    points: Annotated[int | None, typer.Option(min=0, metavar="N", help="Points a picture; 32 by default.")] = None,
    boxes: Annotated[int | None, typer.Option(min=0, metavar="N", help="Boxes a picture; 16 by default.")] = None,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Do not compare the original with itself in bfloat16, too.")
    ] = False,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Ground truth: COCO, LVIS v1, or a folder of SA-1B's files."),
    ] = None,
    format: Annotated[
        Format | None, typer.Option(metavar="coco|lvis|sa1b", help="Of the annotations; told from the content.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="box,point", help="How annotated objects are asked for; both by default.")
    ] = None,
    detections: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Boxes of a detector to ask for, too: COCO results.")
    ] = None,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Measure the best scored mask of the multimask output.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use N pictures, drawn at random.")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of all that is drawn at random.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes; by default one a core, at most 4, and one on a GPU."),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep results here, and go on from them when run again.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write the whole result as JSON.")
    ] = None,
    mode: ModeOption = Mode.hyper,
    compute: ComputeOption = Compute.exact,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.float32,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how closely a model answers as its original, or with annotations how well its masks match them."""
    results = Results(out, force, Output(as_json=as_json, quiet=quiet))
    common: dict[str, Any] = {
        "limit": limit,
        "seed": seed,
        "workers": workers,
        "work_dir": work_dir,
        "mode": mode.value,
        "compute": compute.value,
        "device": device,
        "dtype": dtype.value,
    }
    kinds = None if prompts is None else [kind.strip() for kind in prompts.split(",")]
    truth = eval_accuracy.Truth(annotations, None if format is None else format.value, kinds, detections, multimask)
    if truth.given:
        if points is not None or boxes is not None or no_control:
            raise typer.BadParameter("not with annotations, whose objects are asked for", param_hint="--points")
        eval_accuracy.run(results, model, images, against, truth, common=common)
        return
    if kinds is not None or detections is not None or multimask:
        raise typer.BadParameter("give the ground truth to measure against", param_hint="--annotations")
    if against is None:
        raise typer.BadParameter("give the checkpoint that MODEL was made from", param_hint="--against")
    eval_fidelity.run(
        results, model, images, against, points=points, boxes=boxes, control=not no_control, common=common
    )
