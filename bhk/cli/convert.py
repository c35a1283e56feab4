"""`bhk convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bhk.cli.options import ConfigName, Force, Json, Key, Quiet, Threads
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.calibration.options import Calibration


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


def _calibration(samples: str | None, options: dict[str, object]) -> Calibration | None:
    """Return what to calibrate with; `options` hold None where the user gave nothing."""
    given = {name: value for name, value in options.items() if value is not None}
    if samples is None:
        for name in given:
            raise typer.BadParameter("needs --calibrate", param_hint=f"--{name.replace('_', '-')}")
        return None
    from bhk.calibration.options import Calibration

    return Calibration(samples, **given)  # type: ignore[arg-type]


def convert(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A checkpoint (.pth .pt .bin .safetensors .zip), a folder of shards, or a Hub id."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.bhk", help="The file to write; beside the source by default."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            metavar="NAME",
            help="fine, balanced (default), small, or birkhoff (the published method).",
            autocompletion=lambda: ["fine", "balanced", "small", "birkhoff"],
        ),
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="Give all coded weights together this signal-to-noise ratio in dB, in place of a preset.",
        ),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(metavar="X", help="Make the file X times smaller than the dense tensors.")
    ] = None,
    fidelity: Annotated[
        float | None,
        typer.Option(metavar="IOU", help="Keep this mean mask IoU with the original; Segment Anything models only."),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="WITH",
            autocompletion=lambda: ["dead-leaves", "noise"],
            help="Run the model on samples first, for a smaller file at equal fidelity: dead-leaves or noise (synthetic "
            "pictures; random tokens for a text encoder), or a folder of pictures.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Calibrate with at most N samples or pictures of the folder. Default: 8."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Seed for drawing samples and prompts. Default: 0.")
    ] = None,
    work_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep intermediate results here, to resume calibration or to convert at another ratio."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            autocompletion=lambda: ["measured", "table"],
            help="Share out lattice steps by what calibration measured, or by a table of tensor roles: measured (default), "
            "table.",
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
        typer.Option(
            metavar="GLOB=DB", help="Give each tensor of this name a signal-to-noise ratio in dB. Repeatable."
        ),
    ] = None,
    key: Key = None,
    config: ConfigName = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Add to the file's metadata: license, base_model, ... Repeatable."),
    ] = None,
    threads: Threads = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate the size and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a checkpoint into a small, checked .bhk file."""
    entries, decibels = _pairs(metadata or [], "--metadata"), _decibels(snr_for or [])
    from bhk.conversion.quality import Quality
    from bhk.tasks.convert import convert as task

    output = Output(as_json=as_json, quiet=quiet)
    given = [
        name for name, value in {"--snr": snr, "--ratio": ratio, "--fidelity": fidelity}.items() if value is not None
    ]
    if preset and given:
        raise typer.BadParameter(f"{given[0]} takes the place of a preset; give one of them", param_hint="--preset")
    quality = Quality(
        preset or "balanced",
        snr_db=snr,
        ratio=ratio,
        fidelity=fidelity,
        exact=exact or (),
        only=only or (),
        snr_for=decibels,
    )
    calibration = _calibration(calibrate, {"limit": limit, "seed": seed, "work_dir": work_dir, "steps": steps})
    with output.progress() as progress:
        report = task(
            src,
            out,
            quality,
            calibration=calibration,
            key=key,
            config=config,
            metadata=entries,
            threads=threads,
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    output.report(report)
