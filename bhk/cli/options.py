"""Arguments and options that several commands share."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Mode(str, enum.Enum):
    """How weights are held in memory."""

    hyper = "hyper"
    dense = "dense"


class Dtype(str, enum.Enum):
    """Data type of the weights in memory."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Compute(str, enum.Enum):
    """How layers held as codes are computed."""

    exact = "exact"
    int8 = "int8"


BhkPath = Annotated[
    str,
    typer.Argument(metavar="FILE.bhk", help="A .bhk file, here or on the Hub: hf://user/repo/file.bhk@revision."),
]
ModelPath = Annotated[
    str, typer.Argument(metavar="MODEL", help="A Segment Anything model: a .bhk file or a checkpoint.")
]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which state dict to use when a checkpoint holds several: ema, model, …"),
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Worker threads. Default: one per core.")]

Device = Annotated[str, typer.Option(metavar="NAME", help="Device to compute on: cpu, cuda, cuda:1, …")]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", metavar="float32|bfloat16|float16", help="Data type of the weights in memory.")
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode", metavar="hyper|dense", help="Keep the weights of a .bhk file as codes, or decode them on loading."
    ),
]
ComputeOption = Annotated[
    Compute, typer.Option("--compute", metavar="exact|int8", help="Arithmetic of the layers kept as codes.")
]

_DIFFERENT = {
    "calibration": "--calibrate",
    "qualities": "--presets",
    "snr_db": "--snr",
    'output="multi"': "--multimask",
}


def as_option(text: str) -> str:
    """Return an option of a message, such as "force=True" or "work_dir", as the command line has it."""
    name, _, value = text.partition("=")
    flag = _DIFFERENT.get(text) or _DIFFERENT.get(name) or f"--{name.replace('_', '-')}"
    return flag if value in ("", "True") or text in _DIFFERENT else f"{flag} {value.strip(chr(34))}"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")]
