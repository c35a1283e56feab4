"""`bhk export`."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from bhk.base.limits import parsed_size
from bhk.cli.options import BhkPath, ConfigName, Force, Json, Quiet
from bhk.cli.output import Output


class Format(str, enum.Enum):
    """What to write."""

    checkpoint = "checkpoint"
    onnx = "onnx"


class Weights(str, enum.Enum):
    """How ONNX files hold weights."""

    int8 = "int8"
    float32 = "float32"
    float16 = "float16"


def _bytes(text: str) -> int:
    """Parse a size such as 5GB or 500MiB."""
    found = parsed_size(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 5GB or 500MiB", param_hint="--shard-size")
    return found


def _refuse(given: object, option: str, format_: Format) -> None:
    """Refuse an option of the other format."""
    if given is not None:
        raise typer.BadParameter(f"it does not go together with --format {format_.value}", param_hint=option)


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
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="checkpoint|onnx",
            help="What to write. onnx: a folder with encoder.onnx and decoder.onnx, for ONNX Runtime, OpenVINO and browsers.",
        ),
    ] = Format.checkpoint,
    weights: Annotated[
        Weights | None,
        typer.Option(
            metavar="int8|float32|float16",
            help="How ONNX files hold weights. Default: int8, small integers that give the decoded weights.",
        ),
    ] = None,
    shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Split a checkpoint into shards of at most this size, such as 5GB."),
    ] = None,
    config: ConfigName = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a .bhk file back into a dense checkpoint that any program can load, or into ONNX files."""
    if format_ is Format.onnx:
        _refuse(shard_size, "--shard-size", format_)
        _export_onnx(path, out, weights or Weights.int8, config, force, Output(as_json=as_json, quiet=quiet))
        return
    _refuse(weights, "--weights", format_)
    _refuse(config, "--config", format_)
    shard_bytes = None if shard_size is None else _bytes(shard_size)
    from bhk.tasks.export import export as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress() as progress:
        report = task(path, out, shard_bytes=shard_bytes, force=force, progress=progress)
    output.report(report)


def _export_onnx(path: str, out: str, weights: Weights, config: str | None, force: bool, output: Output) -> None:
    from bhk.tasks.export_onnx import export_onnx as task

    with output.progress() as progress:
        report = task(path, out, weights=weights.value, config=config, force=force, progress=progress)
    output.report(report)
