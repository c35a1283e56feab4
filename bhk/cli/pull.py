"""`bhk pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bhk.cli.options import Force, Json, Quiet
from bhk.cli.output import Output, size


def pull(
    repository: Annotated[
        str, typer.Argument(metavar="USER/REPO", help="A repository, or hf://user/repo/file.bhk@revision.")
    ],
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="Which of its .bhk files; model.bhk, or the only one, by default."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="The file to write, or a folder for it; by default REPO.bhk here."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Get a .bhk file from the Hugging Face Hub, and check it before it is put in its place."""
    from bhk.publishing.pull import pull as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Downloading") as progress:
        found = task(repository, file, out, force=force, progress=progress.part if progress else None)
    output.line(
        f"{found.path}: {size(found.bytes)}, {found.tensors} tensors and {found.streams} streams checked, from "
        f"{found.repository} at commit {found.commit[:8]}"
    )
    if found.from_cache:
        output.hint(f"the Hub was not reached; this is the copy in the cache, of commit {found.commit[:8]}")
    output.document(found)
