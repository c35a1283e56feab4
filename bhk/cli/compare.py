"""`bhk compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bhk.cli.options import Device, Force, Json, Quiet
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.conversion.quality import Quality


def compare(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="A checkpoint: .pth .pt .bin .safetensors .zip")],
    presets: Annotated[
        str, typer.Option(metavar="NAME,...", help="Presets, or signal-to-noise ratios in dB, such as balanced,30.")
    ] = "birkhoff,small,balanced,fine",
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare masks on these pictures instead of synthetic scenes.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most N pictures, drawn at random.")] = 16,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the comparison in an .svg or .png file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write the result as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed for drawing pictures and prompts.")] = 0,
    device: Device = "cpu",
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare presets on a model: sizes, errors, masks and times. Keeps no .bhk file."""
    from bhk.base.files import check_destination
    from bhk.tasks.compare import compare as task

    output = Output(as_json=as_json, quiet=quiet)
    if out is not None:
        check_destination(out, force=force, sources=(Path(original),))
    with output.progress() as progress:
        report = task(
            original,
            [_quality(preset.strip()) for preset in presets.split(",")],
            images=images,
            limit=limit,
            plot=plot,
            seed=seed,
            device=device,
            force=force,
            progress=progress,
        )
    output.report(report)
    output.save(report, out, force=force)


def _quality(preset: str) -> Quality:
    """Return the quality that is called `preset`, which may be a number of decibels."""
    from bhk.conversion.quality import Quality

    try:
        snr_db = float(preset)
    except ValueError:
        return Quality(preset)
    return Quality(snr_db=snr_db)
