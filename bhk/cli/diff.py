"""`bhk diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from bhk.cli.options import Json, Key, Quiet
from bhk.cli.output import Output


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="The reference: a .bhk file or a checkpoint.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The .bhk file or checkpoint to compare with it.")],
    key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which tensors differ between two files, and by how much."""
    from bhk.tasks.diff import diff as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(a, b, key=key, progress=progress)
    output.report(report)
