"""`bhk eval`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    from bhk.evaluation.results import AccuracyReport, FidelityReport


class Format(str, enum.Enum):
    """Format of annotations."""

    coco = "coco"
    lvis = "lvis"
    sa1b = "sa1b"


def evaluate(
    model: ModelPath,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of pictures, with its subfolders.")],
    against: Annotated[
        str | None, typer.Option(metavar="ORIGINAL", help="The checkpoint MODEL was converted from, to compare with.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Point prompts per picture. Default: 32.")
    ] = None,
    boxes: Annotated[int | None, typer.Option(min=0, metavar="N", help="Box prompts per picture. Default: 16.")] = None,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Skip the comparison of the original with itself in bfloat16.")
    ] = False,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Annotated objects: COCO, LVIS v1, or a folder of SA-1B's files."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(metavar="coco|lvis|sa1b", help="Format of the annotations. Default: recognised by the content."),
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(metavar="box,point", help="How to prompt for annotated objects. Default: both.")
    ] = None,
    detections: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="COCO results of a detector; prompt with its boxes, too.")
    ] = None,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Measure the best-scored mask of the multimask output.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use at most N pictures, drawn at random.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed for pictures, prompts and intervals.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes. Default: one per core but at most 4; 1 on a GPU."),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep partial results here, and continue from them.")
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
    """Measure how closely a model's masks match those of its original, or how well they match annotated objects."""
    has_annotations = annotations is not None or format is not None
    if has_annotations and (points is not None or boxes is not None or no_control):
        raise typer.BadParameter("cannot be used with annotations, which bring the prompts", param_hint="--points")
    if not has_annotations and (prompts is not None or detections is not None or multimask):
        raise typer.BadParameter("give the annotations to measure against", param_hint="--annotations")
    if not has_annotations and against is None:
        raise typer.BadParameter("give the checkpoint that MODEL was converted from", param_hint="--against")

    from bhk.base.files import check_destination
    from bhk.evaluation.settings import PROMPTS, AccuracySettings, FidelitySettings
    from bhk.tasks.accuracy import accuracy
    from bhk.tasks.fidelity import fidelity

    output = Output(as_json=as_json, quiet=quiet)
    if out is not None:
        sources = tuple(Path(source) for source in (model, against, annotations, detections) if source is not None)
        check_destination(out, force=force, sources=sources)
    shared: dict[str, Any] = {
        "limit": limit,
        "seed": seed,
        "mode": mode.value,
        "compute": compute.value,
        "device": device,
        "dtype": dtype.value,
    }
    with output.progress("Evaluating") as progress:
        run: dict[str, Any] = {"workers": workers, "work_dir": work_dir, "progress": progress}
        report: FidelityReport | AccuracyReport
        if has_annotations:
            kinds: Any = PROMPTS if prompts is None else tuple(kind.strip() for kind in prompts.split(","))
            report = accuracy(
                model,
                images,
                annotations,
                against=against,
                format=None if format is None else format.value,
                detections=detections,
                settings=AccuracySettings(prompts=kinds, output="multi" if multimask else "single", **shared),
                **run,
            )
        else:
            given: dict[str, Any] = {
                name: count for name, count in (("points", points), ("boxes", boxes)) if count is not None
            }
            assert against is not None
            report = fidelity(
                model,
                images,
                against=against,
                settings=FidelitySettings(control=not no_control, **given, **shared),
                **run,
            )
    output.report(report)
    for hint in report.hints:
        output.hint(hint)
    if out is not None:
        report.save(out, force=force)
        output.hint(f"wrote {out}")
