"""`bhk segment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from bhk.cli.output import Output, number, size

if TYPE_CHECKING:
    from bhk.tasks.segment import SegmentationReport


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
            progress=progress and progress.part,
        )
    rows = [
        (str(index), f"{area:,}", ",".join(map(str, around)), number(score, 3))
        for index, (area, around, score) in enumerate(zip(found.areas, found.boxes, found.scores, strict=True))
    ]
    output.table([("mask", "right"), ("pixels", "right"), ("x,y,width,height", "right"), ("score", "right")], rows)
    if not rows:
        output.hint("no masks found")
    if out is not None:
        output.line(f"{out}: {len(rows)} mask{'' if len(rows) == 1 else 's'} of the {found.output} output")
    if stats:
        output.line(_stats(found))
    if as_json:
        output.document(_document(found, model, image, out), indent=None)


def _stats(found: SegmentationReport) -> str:
    seconds = found.seconds
    memory = "" if found.peak_bytes is None else f"; at most {size(found.peak_bytes)} in use"
    return f"load {seconds.load:.2f} s, encode {seconds.encode:.2f} s, decode {seconds.decode:.2f} s{memory}"


def _document(found: SegmentationReport, model: str, image: Path, out: Path | None) -> dict[str, object]:
    from bhk.base.names import BHK_SUFFIX
    from bhk.pictures.rle import encode
    from bhk.tasks.inspect import inspect

    held = (
        inspect(model) if model.endswith(BHK_SUFFIX) and Path(model).is_file() else None
    )  # or a checkpoint, or on the Hub
    entry = held.model if held else None
    prompts = list(dict.fromkeys(prompt for prompt in found.prompts if prompt is not None))
    height, width = found.size
    masks = [
        {
            "segmentation": encode(mask),
            "area": area,
            "bbox": around,
            "score": score,
            "prompt": None if prompt is None else prompts.index(prompt),
        }
        for mask, area, around, score, prompt in zip(
            found.masks, found.areas, found.boxes, found.scores, found.prompts, strict=True
        )
    ]
    return {
        "model": {
            "path": model,
            "family": entry.family if entry else None,
            "variant": entry.variant if entry else None,
            "ratio": held.ratio if held else None,
        },
        "image": {"path": image, "width": width, "height": height},
        "out": out,
        "output": found.output,
        "prompts": prompts,
        "masks": masks,
        "seconds": found.seconds,
        "peak_bytes": found.peak_bytes,
    }
