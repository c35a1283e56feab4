"""`bhk report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Device, Force, Json, Key, Quiet, Threads
from bhk.cli.output import Output, number, size


def report(
    path: BhkPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PAGE.html", help="The page to write; by default FILE's name with .html."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="ORIGINAL", help="The checkpoint it was made from, to draw errors as well.")
    ] = None,
    key: Key = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures to compare masks on, with --against: a folder, or one picture."),
    ] = None,
    most_images: Annotated[int, typer.Option(min=1, metavar="N", help="Take the first N pictures of a folder.")] = 6,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the main figures there too, as PNG and SVG.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a page about a file: layer map, codebooks, errors, masks. One HTML file that needs no network."""
    from bhk.tasks.report import report as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Drawing") as progress:
        written = task(
            path,
            out,
            against=against,
            key=key,
            images=images,
            most_images=most_images,
            figures=figures,
            force=force,
            device=device,
            threads=threads,
            progress=progress.stage if progress else None,
        )
    for picture in written.skipped:
        output.hint(f"{picture.name} left out: {picture.reason}")
    output.line(f"{written.path}: {size(written.bytes)} in {written.seconds:.1f} s")
    for file in written.figures:
        output.line(str(file))
    if written.iou is not None:
        output.line(f"mean IoU {number(written.iou, 4)} of the masks of {len(written.pictures)} pictures")
    output.document(written)
