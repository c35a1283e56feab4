"""`bhk segment`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bhk.cli.options import Force, Json, ModelPath, Quiet, RunOptions, with_run_options
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.tasks.segment import SegmentationReport
    from bhk.tasks.segment_video import VideoReport


_PLACE = re.compile(r"(?:(?P<object>\d{1,9}):)?(?P<values>[^:@]*)(?:@(?P<frame>\d{1,9}))?")


@dataclass(frozen=True)
class _Place:
    """The value of an option such as 100,200, in a clip also 1:100,200@48 for object 1 in frame 48."""

    values: tuple[float, ...]
    object: int | None
    frame: int | None


def _places(options: list[str] | None, form: str, option: str) -> list[_Place]:
    """Parse options with as many numbers as `form` has."""
    parsed = []
    for value in options or []:
        found = _PLACE.fullmatch(value)
        try:
            values = tuple(map(float, found["values"].split(","))) if found else ()
        except ValueError:
            values = ()
        if found is None or len(values) != len(form.split(",")):
            raise typer.BadParameter(f"{value!r} is not {form} in pixels", param_hint=option)
        number, frame = (None if found[name] is None else int(found[name]) for name in ("object", "frame"))
        parsed.append(_Place(values, number, frame))
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
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="A point on the object, in pixels. Repeatable. In a clip, X,Y@FRAME is in another frame than the others, and "
            "OBJECT:X,Y on one of several objects, which are numbered from 0; so are --not-point and --box.",
        ),
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
        typer.Option(
            min=0, metavar="N", help="The frame of a clip that points and boxes without @FRAME belong to. Default: 0."
        ),
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
    places = {
        "points": _places(point, "x,y", "--point"),
        "not_points": _places(not_point, "x,y", "--not-point"),
        "boxes": _places(box, "x0,y0,x1,y1", "--box"),
    }
    if everything == bool(any(places.values()) or text):
        raise typer.BadParameter("give either --point and --box, or --text, or --everything", param_hint="prompts")
    asked: dict[str, Any] = {"out": out, "force": force, **run}
    from bhk.pictures.clip import is_clip

    if is_clip(image):
        _refuse(everything, "--everything")
        _refuse(multimask, "--multimask")
        from bhk.tasks.segment_video import segment_video

        task: Callable[..., SegmentationReport | VideoReport] = segment_video
        asked |= _in_clip(places, text or [], separate, frame)
    else:
        if frame is not None:
            raise typer.BadParameter("is for clips: a folder of frames or a video file", param_hint="--frame")
        if any(place.object is not None or place.frame is not None for kind in places.values() for place in kind):
            raise typer.BadParameter("OBJECT: and @FRAME are for clips", param_hint="prompts")
        from bhk.tasks.segment import segment as task

        asked |= {name: [place.values for place in kind] for name, kind in places.items()}
        asked |= {"texts": text or (), "everything": everything, "separate": separate}
        asked |= {"multimask": multimask, "points_per_side": points_per_side}
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(model, image, progress=progress, **asked)
    output.report(report)
    if stats:
        output.hint(report.stats())


def _in_clip(places: dict[str, list[_Place]], texts: list[str], separate: bool, frame: int | None) -> dict[str, Any]:
    """Return the prompts for a clip as `bhk.segment_video` takes them."""
    from bhk.pictures.clip_prompts import Mark, clip_prompts

    if texts:
        _refuse(any(places.values()) or separate or frame is not None, "--text", "goes without other prompts in a clip")
        return {"texts": texts}
    marks = {
        name: [Mark(place.values, (frame or 0) if place.frame is None else place.frame, place.object) for place in kind]
        for name, kind in places.items()
    }
    return {"prompts": clip_prompts(**marks, separate=separate)}


def _refuse(given: bool, option: str, why: str = "is for pictures, not for clips; give --point or --box") -> None:
    if given:
        raise typer.BadParameter(why, param_hint=option)
