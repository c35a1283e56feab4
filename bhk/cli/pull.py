"""`bhk pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import Force, Json, Quiet
from bhk.cli.output import Output


def pull(
    repository: Annotated[
        str, typer.Argument(metavar="USER/REPO", help="A repository on the Hub, or hf://user/repo/file.bhk@revision.")
    ],
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Which of its .bhk files. Default: model.bhk, or the only one."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="The file to write, or a folder for it. Default: REPO.bhk."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download a .bhk file from the Hugging Face Hub, and verify it before writing it."""
    from bhk.publishing.pull import pull as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(repository, out, file=file, force=force, progress=progress)
    output.report(report)
