"""`bhk inspect`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Json
from bhk.cli.output import Output


class By(str, enum.Enum):
    """How rows are grouped."""

    role = "role"
    block = "block"


class Sort(str, enum.Enum):
    """Column that rows are sorted by."""

    name = "name"
    bytes = "bytes"
    bits = "bits"
    ratio = "ratio"
    snr = "snr"
    max_error = "max-error"


def inspect(
    path: BhkPath,
    by: Annotated[
        By | None, typer.Option(metavar="role|block", help="One row per role or per block, instead of one per tensor.")
    ] = None,
    sort: Annotated[
        Sort | None,
        typer.Option(
            metavar="COLUMN",
            help="Sort by bytes, bits, ratio or max-error (largest first), or by name or snr (smallest first). "
            "Default: the order of the file.",
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show only the first N rows.")] = None,
    as_json: Json = False,
) -> None:
    """List the tensors of a .bhk file with their encoding, size and error. Reads only the header."""
    from bhk.tasks.inspect import inspect as task

    report = task(path, by=by.value if by else None, sort=sort.value if sort else None, top=top)
    Output(as_json=as_json).report(report)
