"""`bhk eval`."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bhk.cli.options import (
    Engine,
    EngineName,
    Force,
    Json,
    Quiet,
    RayAddress,
    RunOptions,
    with_run_options,
    workers_of,
)
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.engines.parts import Part
    from bhk.evaluation.frame import PartReport
    from bhk.evaluation.report import ComparedReport


class Format(str, enum.Enum):
    """Format of annotations."""

    coco = "coco"
    lvis = "lvis"
    sa1b = "sa1b"


@with_run_options
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Segment Anything models: .bhk files or checkpoints, one or several."),
    ],
    images: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder of pictures, with its subfolders and tar archives; an archive; or archives on the Hub: "
            "hf://datasets/user/repo. With --follow, a folder or video file.",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(metavar="ORIGINAL", help="The checkpoint the models were converted from, to compare with."),
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Point prompts per picture. Default: 32; 2 with --follow.")
    ] = None,
    boxes: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Box prompts per picture. Default: 16; 2 with --follow.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What to find in each picture instead, with SAM 3. Repeatable."),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="The pictures are the frames of a clip: prompt in the first, and compare all through it."
        ),
    ] = False,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Skip the comparison of the original with itself in bfloat16.")
    ] = False,
    annotations: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.json", help="Annotated objects: COCO, LVIS v1, or a folder or archive of SA-1B's files."
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(metavar="coco|lvis|sa1b", help="Format of the annotations. Default: recognised by the content."),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="box,point,text",
            help="How to prompt for annotated objects; text asks SAM 3 for the names of their categories. Default: box,point.",
        ),
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
        typer.Option(
            min=1, metavar="N", help="Processes. Default: one per core but at most 4; 1 on a GPU; on Ray, all it has."
        ),
    ] = None,
    engine: EngineName = Engine.processes,
    ray_address: RayAddress = None,
    gpus: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="How much of a GPU each worker on Ray gets. Default: 1 on a CUDA device."),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep partial results here, and continue from them.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Compute only part I of N, into --work-dir, which all parts share. Default with --work-dir: what a Slurm "
            "array or torchrun says.",
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Compute nothing, and give the result of all parts in --work-dir.")
    ] = False,
    min_iou: Annotated[
        float | None,
        typer.Option(metavar="IOU", help="End with status 1 if the mean IoU (with annotations: a mIoU) is lower."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="End with status 1 if AP (without categories: mIoU) drops by more than this share of the original's. "
            "Needs annotations and --against.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write the result: all of it as .json, its table as .csv or .tex."
        ),
    ] = None,
    *,
    run: RunOptions,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how closely the masks of models match those of their original, or how well they match annotated objects."""
    has_truth = annotations is not None or format is not None
    for option, given in (
        ("--points", points is not None),
        ("--boxes", boxes is not None),
        ("--no-control", no_control),
        ("--follow", follow),
    ):
        _refuse(given and has_truth, option, "cannot be used with annotations, which bring the prompts")
    _refuse(
        bool(text) and has_truth, "--text", "cannot be used with annotations; --prompts text asks for their categories"
    )
    for option, given in (("--points", points is not None), ("--boxes", boxes is not None), ("--follow", follow)):
        _refuse(given and bool(text), option, "does not go together with --text")
    for option, given in (
        ("--prompts", prompts is not None),
        ("--detections", detections is not None),
        ("--multimask", multimask),
        ("--max-drop", max_drop is not None),
    ):
        _refuse(given and not has_truth, option, "needs --annotations, or --format for SA-1B")
    _refuse(max_drop is not None and against is None, "--max-drop", "needs --against, the original to compare with")
    for option, given in (("--part", part is not None), ("--merge", merge)):
        _refuse(given and work_dir is None, option, "needs --work-dir, a folder that all parts share")
    _refuse(merge and part is not None, "--merge", "gives the result of all parts; leave out --part")
    _refuse(
        merge and (workers is not None or engine is Engine.ray),
        "--merge",
        "computes nothing; leave out --workers and --engine",
    )
    share = None if merge or work_dir is None else _part(part)
    for option, given in (
        ("--out", out is not None),
        ("--min-iou", min_iou is not None),
        ("--max-drop", max_drop is not None),
    ):
        _refuse(
            share is not None and given, option, "needs the results of all parts: use --merge, or --part 1/1 for all"
        )
    found = workers_of(engine, ray_address, workers, gpus)
    _refuse(against is None and not has_truth, "--against", "give the checkpoint that the models were converted from")

    from bhk.evaluation.files import check_results_file
    from bhk.evaluation.frame import PartReport

    output = Output(as_json=as_json, quiet=quiet)
    if out is not None:
        sources = tuple(Path(source) for source in (*models, against, annotations, detections) if source is not None)
        check_results_file(out, force=force, sources=sources)
    settings: dict[str, Any] = {"limit": limit, "seed": seed, **run}
    with output.progress() as progress:
        resources: dict[str, Any] = {
            "against": against,
            "workers": 0 if merge else found,
            "work_dir": work_dir,
            "part": share,
            "progress": progress,
        }
        chosen = models[0] if len(models) == 1 else models
        report: ComparedReport | PartReport
        if has_truth:
            settings |= {"output": "multi" if multimask else "single"}
            if prompts is not None:
                settings |= {"prompts": tuple(kind.strip() for kind in prompts.split(","))}
            truth = {"annotations": annotations, "format": format and format.value, "detections": detections}
            report = _accuracy(chosen, images, settings, truth | resources)
        else:
            usual = 2 if follow else None  # each object takes as long as a picture
            counts = {name: usual if count is None else count for name, count in (("points", points), ("boxes", boxes))}
            settings |= {
                "follow": follow,
                "texts": tuple(text or ()),
                **{name: count for name, count in counts.items() if count is not None},
            }
            report = _fidelity(chosen, images, settings | {"control": not no_control}, resources)
    output.report(report)
    if isinstance(report, PartReport):
        return
    output.save(report, out, force=force)
    if min_iou is not None or max_drop is not None:
        from bhk.cli.gates import not_met

        missed = not_met(report, min_iou, max_drop)
        output.require(missed is None, missed or "")


def _refuse(wrong: bool, option: str, reason: str) -> None:
    if wrong:
        raise typer.BadParameter(reason, param_hint=option)


def _part(text: str | None) -> Part | None:
    """Return the part to compute; None for everything."""
    from bhk.engines.parts import Part

    part = Part.of_environment() if text is None else Part.parse(text)
    return None if part is None or part.count == 1 else part


def _fidelity(
    models: str | list[str], images: str, settings: Mapping[str, Any], resources: Mapping[str, Any]
) -> ComparedReport | PartReport:
    from bhk.evaluation.settings import FidelitySettings
    from bhk.tasks.fidelity import fidelity

    report: ComparedReport | PartReport = fidelity(models, images, settings=FidelitySettings(**settings), **resources)
    return report


def _accuracy(
    models: str | list[str], images: str, settings: Mapping[str, Any], resources: Mapping[str, Any]
) -> ComparedReport | PartReport:
    from bhk.evaluation.settings import AccuracySettings
    from bhk.tasks.accuracy import accuracy

    report: ComparedReport | PartReport = accuracy(models, images, settings=AccuracySettings(**settings), **resources)
    return report
