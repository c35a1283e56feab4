"""`bhk segment`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bhk.cli.options import Force, Json, ModelPath, Quiet, RunOptions, with_run_options
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.tasks.segment import SegmentationReport
    from bhk.tasks.segment_video import VideoReport


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
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE|CLIP",
            help="A picture: JPEG, PNG, WebP, TIFF, BMP or GIF. Or a clip: a folder of frames or a video file.",
        ),
    ],
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
    separate: Annotated[
        bool, typer.Option("--separate", help="Each --point is on an object of its own, as each --box is around one.")
    ] = False,
    everything: Annotated[bool, typer.Option("--everything", help="Find every object, with a grid of points.")] = False,
    multimask: Annotated[
        bool, typer.Option("--multimask", help="Return all masks that the model proposes, not only the best.")
    ] = False,
    points_per_side: Annotated[
        int, typer.Option(min=1, metavar="N", help="Size of the grid for --everything: N x N points.")
    ] = 32,
    frame: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="The frame of a clip that points and boxes belong to. Default: 0."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the picture with the masks: .png or .jpg. For a clip: .mp4, .mov, .mkv, or a folder of pictures.",
        ),
    ] = None,
    *,
    run: RunOptions,
    stats: Annotated[bool, typer.Option("--stats", help="Show times and the highest memory use.")] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the masks of objects in a picture, from points, boxes, texts or a grid, or in every frame of a clip."""
    points, boxes = _numbers(point, "x,y", "--point"), _numbers(box, "x0,y0,x1,y1", "--box")
    not_points = _numbers(not_point, "x,y", "--not-point")
    if everything == bool(points or not_points or boxes or text):
        raise typer.BadParameter("give either --point and --box, or --text, or --everything", param_hint="prompts")
    asked: dict[str, Any] = {
        "points": points,
        "not_points": not_points,
        "boxes": boxes,
        "separate": separate,
        "out": out,
        "force": force,
        **run,
    }
    from bhk.pictures.clip import is_clip

    if is_clip(image):
        _refuse(everything, "--everything")
        _refuse(multimask, "--multimask")
        _refuse(bool(text), "--text")
        from bhk.tasks.segment_video import segment_video

        task: Callable[..., SegmentationReport | VideoReport] = segment_video
        asked |= {"frame": frame or 0}
    else:
        if frame is not None:
            raise typer.BadParameter("is for clips: a folder of frames or a video file", param_hint="--frame")
        from bhk.tasks.segment import segment as task

        asked |= {"texts": text or (), "everything": everything}
        asked |= {"multimask": multimask, "points_per_side": points_per_side}
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(model, image, progress=progress, **asked)
    output.report(report)
    if stats:
        output.hint(report.stats())


def _refuse(given: bool, option: str) -> None:
    if given:
        raise typer.BadParameter("is for pictures, not for clips; give --point or --box", param_hint=option)
