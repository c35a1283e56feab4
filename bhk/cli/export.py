"""`bhk export`."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from bhk.cli.options import BhkPath, Force, Json, Quiet
from bhk.cli.output import Output, size

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(text: str) -> int:
    """Parse a size such as 5GB or 500MiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text.strip().upper())
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is not a size such as 5GB or 500MiB", param_hint="--shard-size")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def export(
    path: BhkPath,
    dst: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="The .pth, .pt, .bin or .safetensors file to write; in a folder, under the model's official name.",
        ),
    ],
    shard_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Cut into shards of at most this size (5GB), with an index.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .bhk file back into a dense checkpoint that any program loads."""
    shard_bytes = None if shard_size is None else _bytes(shard_size)
    from bhk.tasks.export import export as task
    from bhk.tasks.export import name_in_folder

    output = Output(as_json=as_json, quiet=quiet)
    target, others = name_in_folder(path, dst)
    with output.progress("Exporting") as progress:
        files = task(path, dst, shard_bytes=shard_bytes, force=force, progress=progress)
    for file in files:
        output.line(f"{file}: {size(file.stat().st_size)}")
    if others:
        output.hint(f"{target.name} is one official name of this architecture; others: {', '.join(others)}")
    output.document({"files": [{"path": str(file), "bytes": file.stat().st_size} for file in files]})
