"""`bhk diff`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from bhk.cli.options import Json, Key, Quiet
from bhk.cli.output import Output, number, scientific


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A .bhk file or a checkpoint: the reference.")],
    b: Annotated[str, typer.Argument(metavar="B", help="A .bhk file or a checkpoint.")],
    key: Key = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which tensors differ between two files, and by how much."""
    from bhk.tasks.diff import diff as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Comparing", unit_bytes=False) as progress:
        found = task(a, b, key=key, progress=progress)
    unequal = [entry for entry in found if entry.status != "equal"]
    if unequal:
        rows = [
            (
                entry.name,
                f"{entry.status} {entry.detail}".strip(),
                number(entry.difference.snr_db, 1) if entry.difference else "",
                scientific(entry.difference.max_abs) if entry.difference else "",
            )
            for entry in unequal
        ]
        output.table([("tensor", "left"), ("status", "left"), ("SNR dB", "right"), ("max difference", "right")], rows)
    counts = Counter[str](entry.status for entry in found)
    output.line(", ".join(f"{count} {status}" for status, count in counts.most_common()) or "no tensors")
    output.document({"counts": dict(counts), "tensors": list(found)})
