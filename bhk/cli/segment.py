"""`bhk segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import Force, Json, ModelPath, Quiet, RunOptions, with_run_options
from bhk.cli.output import Output


def _numbers(values: list[str] | None, form: str, option: str) -> list[tuple[float, ...]]:
    """Parse options such as 100,200 with as many numbers as `form` has."""
    parsed = []
    for value in values or []:
        try:
            parsed.append(tuple(map(float, value.split(","))))
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {form} in pixels", param_hint=option) from None
        if len(parsed[-1]) != len(form.split(",")):
            raise typer.BadParameter(f"{value!r} is not {form} in pixels", param_hint=option)
    return parsed


@with_run_options
def segment(
    model: ModelPath,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture: JPEG, PNG, WebP, TIFF, BMP or GIF.")],
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point on the object, in pixels. Repeatable.")
    ] = None,
    not_point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point outside the object. Repeatable.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="A box around an object. Repeatable, for one object each."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to find, such as 'a cup', with SAM 3. Repeatable.")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Find every object, with a grid of points.")] = False,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Return all masks that the model proposes, not only the best.")
    ] = False,
    points_per_side: Annotated[
        int, typer.Option(min=1, metavar="N", help="Size of the grid for --everything: N x N points.")
    ] = 32,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the picture with the masks: .png or .jpg.")
    ] = None,
    *,
    run: RunOptions,
    stats: Annotated[bool, typer.Option("--stats", help="Show times and the highest memory use.")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the masks of objects in a picture, from points, boxes, texts, or a grid over everything."""
    points, boxes = _numbers(point, "x,y", "--point"), _numbers(box, "x0,y0,x1,y1", "--box")
    not_points = _numbers(not_point, "x,y", "--not-point")
    if everything == bool(points or not_points or boxes or text):
        raise typer.BadParameter("give either --point and --box, or --text, or --everything", param_hint="prompts")
    from bhk.tasks.segment import segment as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(
            model,
            image,
            points=points,
            not_points=not_points,
            boxes=boxes,
            texts=text or (),
            everything=everything,
            multimask=multimask,
            points_per_side=points_per_side,
            out=out,
            force=force,
            progress=progress,
            **run,
        )
    output.report(report)
    if stats:
        output.hint(report.stats())
