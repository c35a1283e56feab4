"""`bhk convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from bhk.cli.options import Force, Json, Key, Quiet, Threads
from bhk.cli.output import Output, plain, size

if TYPE_CHECKING:
    from bhk.conversion.coder import Allocate


def _pairs(values: list[str], option: str) -> dict[str, str]:
    """Split options of the form NAME=VALUE."""
    for value in values:
        if "=" not in value:
            raise typer.BadParameter(f"{value!r} has no '='", param_hint=option)
    return dict(value.rsplit("=", 1) if option == "--snr-for" else value.split("=", 1) for value in values)


def _decibels(values: list[str]) -> dict[str, float]:
    try:
        return {pattern: float(value) for pattern, value in _pairs(values, "--snr-for").items()}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--snr-for") from None


def convert(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A checkpoint (.pth .pt .bin .safetensors .zip), a folder of shards, or a Hub id."
        ),
    ],
    dst: Annotated[
        Path | None, typer.Argument(metavar="FILE.bhk", help="The file to write; beside the source by default.")
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            "--preset", "-p", metavar="NAME", help="fine, balanced, small, or birkhoff (the published method)."
        ),
    ] = "balanced",
    snr: Annotated[
        float | None, typer.Option(metavar="DB", help="Signal-to-noise ratio of the model, instead of a preset's.")
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(metavar="X", help="Make the file X times smaller than the dense tensors.")
    ] = None,
    fidelity: Annotated[
        float | None, typer.Option(metavar="IOU", help="Mean mask IoU with the original to keep; of a SAM only.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="WITH",
            help="Look at the model first, for a smaller file at equal fidelity: with dead-leaves or noise (synthetic "
            "pictures; random tokens for a text encoder), or a folder of pictures.",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many synthetic pictures, or pictures of the folder.")
    ] = 8,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of synthetic pictures.")] = 0,
    work_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what calibration finds, to go on from, or for another ratio."),
    ] = None,
    allocate: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Steps of the tensors: table (by role in a SAM) or measured (needs --calibrate, and is its default).",
        ),
    ] = None,
    exact: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Keep tensors of this name exact. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Code only tensors of this name. Repeatable.")
    ] = None,
    snr_for: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB=DB", help="Signal-to-noise ratio for tensors of this name. Repeatable."),
    ] = None,
    key: Key = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Add to the file's metadata: licence, base_model, … Repeatable."),
    ] = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate the size, write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a checkpoint into a small, checked .bhk file."""
    entries, decibels = _pairs(metadata or [], "--metadata"), _decibels(snr_for or [])
    from bhk.tasks.convert import convert as task

    output = Output(as_json=as_json, quiet=quiet)
    with output.progress("Converting") as progress:
        report = task(
            src,
            dst,
            preset=preset,
            snr=snr,
            ratio=ratio,
            fidelity=fidelity,
            calibrate=calibrate,
            pictures=pictures,
            seed=seed,
            work_dir=work_dir,
            allocate=cast("Allocate | None", allocate),
            exact=exact or (),
            only=only or (),
            snr_for=decibels,
            key=key,
            metadata=entries,
            threads=threads,
            force=force,
            dry_run=dry_run,
            progress=progress,
            watch=progress.stage if progress else None,
        )
    for left in report.left_out:
        output.hint(f"left out: {left}")
    for warning in report.warnings:
        output.hint(f"warning: {warning}")
    if report.calibration is not None:
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.calibration.seconds.items())
        output.hint(f"calibrated on {report.calibration.samples} samples: {stages}")
    about = "" if report.path else "about "
    smaller = f"{report.ratio:.2f} times smaller than {size(report.source_bytes)}"
    output.line(
        f"{report.path or 'dry run, nothing written'}: {about}{size(report.bytes)}, {about}{smaller}, "
        f"{report.coded} of {len(report.layers)} tensors coded, {report.seconds:.1f} s"
    )
    fields = ("path", "source_bytes", "bytes", "ratio", "seconds", "coded", "warnings", "left_out", "calibration")
    output.document({name: plain(getattr(report, name)) for name in fields} | {"tensors": len(report.layers)})
