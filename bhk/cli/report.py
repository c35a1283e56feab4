"""`bhk report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Device, Force, Json, Key, Quiet, Threads
from bhk.cli.output import Output


def report(
    path: BhkPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PAGE.html", help="The page to write. Default: FILE with .html."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="ORIGINAL", help="The checkpoint FILE was converted from, to show errors as well."),
    ] = None,
    key: Key = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Compare masks on pictures: a folder or a single picture. Needs --against."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Use the first N pictures of a folder.")] = 6,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the main figures there, as PDF, PNG and SVG.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an HTML page about a file: layer map, codebooks, errors, masks. It needs no network."""
    from bhk.tasks.report import report as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        page = task(
            path,
            out,
            against=against,
            key=key,
            images=images,
            limit=limit,
            figures=figures,
            device=device,
            threads=threads,
            force=force,
            progress=progress,
        )
    output.report(page)
