"""`bhk verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Json, Key, Quiet, Threads
from bhk.cli.output import Output, number, scientific, size


def verify(
    path: BhkPath,
    against: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The original checkpoint: compare every tensor with it.")
    ] = None,
    key: Key = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check header, hashes and codes of a .bhk file, and its error against the original."""
    from bhk.tasks.verify import verify as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Verifying") as progress:
        found = task(path, against, key=key, threads=threads, progress=progress)
    if against is not None:
        coded = [(layer.name, layer.difference) for layer in found.layers if layer.encoding == "trajectory"]
        rows = [
            (name, number(apart.snr_db, 1), scientific(apart.max_abs)) for name, apart in coded if apart is not None
        ]
        output.table([("coded tensor", "left"), ("SNR dB", "right"), ("max error", "right")], rows)
        output.line(f"{len(found.layers) - len(coded)} tensors kept exact are equal to the original's")
    compared = f"; coded tensors are no farther from {found.against} than the file says" if found.against else ""
    output.line(
        f"{found.path} is sound: {size(found.bytes)}, {len(found.layers)} tensors, {found.streams} streams checked{compared}"
    )
    if against is not None and coded and all(apart is not None and apart.equal for _, apart in coded):
        output.hint(f"warning: {found.against} holds the decoded weights themselves; it is not the original")
    output.document(found)
