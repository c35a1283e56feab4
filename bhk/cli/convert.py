"""`bhk convert`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bhk.base.texts import counted
from bhk.cli.options import ConfigName, Engine, EngineName, Force, Json, Key, Quiet, RayAddress, Threads, workers_of
from bhk.cli.output import Output

if TYPE_CHECKING:
    from bhk.calibration.options import Calibration
    from bhk.conversion.quality import Quality
    from bhk.engines.ray_cluster import Ray


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
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A checkpoint (.pth .pt .bin .safetensors .zip), a folder of shards, or a Hub id. With --out-dir, several, "
            "folders of them, or patterns.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.bhk", help="The file to write; beside the source by default."),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Convert many checkpoints into this folder. One that fails does not stop the others; files up to date "
            "are kept.",
        ),
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
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="With --out-dir: convert N checkpoints at a time. Default: 1; on Ray, all it has."
        ),
    ] = None,
    engine: EngineName = Engine.processes,
    ray_address: RayAddress = None,
    force: Force = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate the size and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a checkpoint into a small, checked .bhk file; with --out-dir, many."""
    if out_dir is None:
        many = {"--workers": workers, "--engine": engine is Engine.ray or None, "--ray-address": ray_address}
        for option in (name for name, value in many.items() if value is not None):
            raise typer.BadParameter("needs --out-dir", param_hint=option)
        if len(sources) > 1:
            raise typer.BadParameter("several checkpoints need --out-dir, a folder to write into", param_hint="SOURCE")
    for option, alone in (("--out", out is not None), ("--dry-run", dry_run)):
        if alone and out_dir is not None:
            raise typer.BadParameter("is for one checkpoint; leave out --out-dir", param_hint=option)
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
    common: dict[str, Any] = {
        "calibration": calibration,
        "key": key,
        "config": config,
        "metadata": entries,
        "threads": threads,
        "force": force,
    }
    if out_dir is not None:
        _convert_all(output, sources, out_dir, quality, workers_of(engine, ray_address, workers), common)
        return
    with output.progress() as progress:
        report = task(sources[0], out, quality, dry_run=dry_run, progress=progress, **common)
    output.report(report)


def _convert_all(
    output: Output,
    sources: list[str],
    out_dir: Path,
    quality: Quality,
    workers: int | Ray | None,
    common: Mapping[str, Any],
) -> None:
    from bhk.tasks.convert_all import convert_all

    with output.progress() as progress:
        report = convert_all(sources, out_dir, quality, workers=workers or 1, progress=progress, **common)
    output.report(report)
    failed = report.count("failed")
    output.require(not failed, f"{failed} of {counted(len(report.checkpoints), 'checkpoint')} failed")
