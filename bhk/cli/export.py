"""`bhk export`."""

from __future__ import annotations

from typing import Annotated

import typer

from bhk.base.limits import parsed_size
from bhk.cli.options import BhkPath, Force, Json, Quiet
from bhk.cli.output import Output


def _bytes(text: str) -> int:
    """Parse a size such as 5GB or 500MiB."""
    found = parsed_size(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 5GB or 500MiB", param_hint="--shard-size")
    return found


def export(
    path: BhkPath,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="The .pth, .pt, .bin or .safetensors file to write; or a folder, to use the model's official name.",
        ),
    ],
    shard_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Split into shards of at most this size, such as 5GB.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .bhk file back into a dense checkpoint that any program can load."""
    shard_bytes = None if shard_size is None else _bytes(shard_size)
    from bhk.tasks.export import export as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(path, out, shard_bytes=shard_bytes, force=force, progress=progress)
    output.report(report)
