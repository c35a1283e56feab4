"""`bhk compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bhk.cli.options import ConfigName, Device, Force, Json, Quiet
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
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="What to find in the pictures, with SAM 3, in place of points and boxes. Repeatable."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most N pictures, drawn at random.")] = 16,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the comparison in a .pdf, .svg or .png file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Write the result: all of it as .json, its table as .csv or .tex."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed for drawing pictures and prompts.")] = 0,
    device: Device = "cpu",
    config: ConfigName = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare presets on a model: sizes, errors, masks and times. Keeps no .bhk file."""
    from bhk.evaluation.files import check_results_file
    from bhk.tasks.compare import compare as task

    output = Output(as_json=as_json, quiet=quiet)
    if out is not None:
        check_results_file(out, force=force, sources=(Path(original),))
    with output.progress() as progress:
        report = task(
            original,
            [_quality(preset.strip()) for preset in presets.split(",")],
            images=images,
            texts=text or (),
            limit=limit,
            plot=plot,
            seed=seed,
            device=device,
            config=config,
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
