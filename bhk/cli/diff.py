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
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with status 1 unless all tensors are equal, bit for bit.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which tensors differ between two files, and by how much."""
    from bhk.tasks.diff import diff as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(a, b, key=key, progress=progress)
    output.report(report)
    differing = sum(entry.status != "equal" for entry in report.tensors)
    output.require(report.equal or not exit_code, f"{differing} of {len(report.tensors)} tensors differ")
