"""`bhk compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bhk.cli.options import Device, Force, Json, Quiet
from bhk.cli.output import Output, number, size

if TYPE_CHECKING:
    from bhk.evaluation.fidelity import Agreement
    from bhk.tasks.compare import Choice, Comparison

_COLUMNS = [
    ("preset", "left"),
    ("size", "right"),
    ("ratio", "right"),
    ("SNR dB", "right"),
    ("lowest", "right"),
    ("convert", "right"),
    ("load", "right"),
]
_MASKS = [("points IoU", "right"), ("1st pct.", "right"), ("boxes IoU", "right"), ("1st pct.", "right")]


def compare(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="A checkpoint: .pth .pt .bin .safetensors .zip")],
    presets: Annotated[
        str, typer.Option(metavar="NAME,…", help="Presets, or signal-to-noise ratios in dB: balanced,30")
    ] = "birkhoff,small,balanced,fine",
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures to compare masks on; made-up scenes by default.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Use at most N pictures, drawn at random.")] = 16,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the comparison: .svg .png")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="Write the result as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the choice of pictures and of prompts.")] = 0,
    device: Device = "cpu",
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare presets on a model: sizes, errors, masks, times. Writes no .bhk file."""
    from bhk.base.files import check_destination
    from bhk.tasks.compare import compare as task

    output = Output(as_json=as_json, quiet=quiet)
    if out is not None:
        check_destination(out, force=force, sources=(Path(original),))
    with output.progress("Comparing", unit_bytes=False) as progress:
        found = task(
            original,
            presets=[preset.strip() for preset in presets.split(",")],
            images=images,
            plot=plot,
            limit=limit,
            seed=seed,
            device=device,
            force=force,
            progress=progress,
        )
    if out is not None:
        found.save(out, force=force)
    has_masks = found.no_masks is None
    output.table(_COLUMNS + _MASKS * has_masks, [_row(choice, has_masks) for choice in found.choices])
    output.line(_about(found))
    for picture in found.skipped:
        output.hint(f"{picture.name} left out: {picture.reason}")
    output.document(found.document())


def _row(choice: Choice, has_masks: bool) -> list[str]:
    cells = [
        choice.name,
        size(choice.bytes),
        number(choice.ratio),
        number(choice.snr_db, 1),
        number(choice.lowest_snr_db, 1),
        number(choice.convert_seconds, 1, " s"),
        number(choice.load_seconds, 1, " s"),
    ]
    return cells + (_masks(choice.points) + _masks(choice.boxes) if has_masks else [])


def _masks(found: Agreement | None) -> list[str]:
    return ["–", "–"] if found is None else [number(found.iou_mean.value, 4), number(found.iou_percentile, 4)]


def _about(found: Comparison) -> str:
    if found.no_masks is not None:
        return f"masks were not compared: {found.no_masks}"
    if found.made:
        return f"masks of {found.pictures} made-up scenes; yours may differ: give pictures of your own with --images"
    return f"masks of {found.pictures} pictures"
