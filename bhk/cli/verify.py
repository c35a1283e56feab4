"""`bhk verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Json, Key, Quiet, Threads
from bhk.cli.output import Output


def verify(
    path: BhkPath,
    against: Annotated[
        str | None, typer.Option(metavar="ORIGINAL", help="The original checkpoint; compares every tensor with it.")
    ] = None,
    key: Key = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of a .bhk file: header, hashes, codes. With the original, check its errors, too."""
    from bhk.tasks.verify import verify as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(path, against, key=key, threads=threads, progress=progress)
    output.report(report)
