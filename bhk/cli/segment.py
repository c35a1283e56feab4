"""`bhk segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def _numbers(values: list[str] | None, form: str, option: str) -> list[tuple[float, ...]]:
    """Parse options such as 100,200 that have as many numbers as `form`."""
    parsed = []
    for value in values or []:
        try:
            parsed.append(tuple(map(float, value.split(","))))
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {form} in pixels", param_hint=option) from None
        if len(parsed[-1]) != len(form.split(",")):
            raise typer.BadParameter(f"{value!r} is not {form} in pixels", param_hint=option)
    return parsed


def segment(
    model: ModelPath,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture: JPEG, PNG, WebP, TIFF, BMP.")],
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point on the object, in pixels. Repeatable.")
    ] = None,
    not_point: Annotated[list[str] | None, typer.Option(metavar="X,Y", help="A point beside it. Repeatable.")] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="A box around an object. Repeatable: one object each."),
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Find all there is, by a grid of points.")] = False,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="All masks the model proposes for a prompt, not the best alone.")
    ] = False,
    points_per_side: Annotated[int, typer.Option(min=1, metavar="N", help="Of the grid for --everything.")] = 32,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the picture with the masks: .png .jpg")
    ] = None,
    mode: ModeOption = Mode.hyper,
    compute: ComputeOption = Compute.exact,
    device: Device = "cpu",
    dtype: DtypeOption = Dtype.float32,
    stats: Annotated[bool, typer.Option("--stats", help="Say how long it took, and the most memory in use.")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find masks in a picture: of points, of boxes, or of everything."""
    points, boxes = _numbers(point, "x,y", "--point"), _numbers(box, "x0,y0,x1,y1", "--box")
    not_points = _numbers(not_point, "x,y", "--not-point")
    if everything == bool(points or not_points or boxes):
        raise typer.BadParameter("give either --point and --box, or --everything", param_hint="prompts")
    from bhk.tasks.segment import segment as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Loading") as progress:
        found = task(
            model,
            image,
            points=points,
            not_points=not_points,
            boxes=boxes,
            everything=everything,
            multimask=multimask,
            points_per_side=points_per_side,
            out=out,
            force=force,
            mode=mode.value,
            compute=compute.value,
            device=device,
            dtype=dtype.value,
            progress=progress,
        )
    if as_json:
        output.document(found.document(), indent=None)
        return
    output.report(found)
    if not found.scores:
        output.hint("no masks found")
    if stats:
        output.line(found.stats())
