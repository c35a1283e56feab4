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
    min_snr: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="End with status 1 if all coded tensors together have a lower signal-to-noise ratio. Needs --against.",
        ),
    ] = None,
    key: Key = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of a .bhk file: header, hashes, codes. With the original, check its errors, too."""
    if min_snr is not None and against is None:
        raise typer.BadParameter("needs --against", param_hint="--min-snr")
    from bhk.base.texts import number
    from bhk.tasks.verify import verify as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(path, against, key=key, threads=threads, progress=progress)
    output.report(report)
    if min_snr is not None and report.snr_db is not None:
        message = f"the coded tensors have {number(report.snr_db, 2)} dB, less than {min_snr:g} dB"
        output.require(report.snr_db >= min_snr, message)
