"""Arguments and options that several commands share."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from bhk.engines.ray_cluster import Ray


class Mode(str, enum.Enum):
    """How weights are held in memory."""

    auto = "auto"
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


class Engine(str, enum.Enum):
    """Who computes."""

    processes = "processes"
    ray = "ray"


class Attention(str, enum.Enum):
    """Which modules compute attention."""

    fused = "fused"
    package = "package"


BhkPath = Annotated[
    str,
    typer.Argument(metavar="FILE.bhk", help="A .bhk file, here or on the Hub: hf://user/repo/file.bhk@revision."),
]
ModelPath = Annotated[
    str, typer.Argument(metavar="MODEL", help="A Segment Anything model: a .bhk file or a checkpoint.")
]
Key = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which state dict to use when a checkpoint holds several: ema, model, ..."),
]
ConfigName = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="NAME",
        help="What the tensors do not show: a YAML file or config.json, a YAML file of the model's package, or a name of "
        "`bhk models`.",
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Worker threads. Default: one per core.")]

Device = Annotated[str, typer.Option(metavar="NAME", help="Device to compute on: cpu, cuda, cuda:1, ...")]

EngineName = Annotated[
    Engine, typer.Option(metavar="processes|ray", help="Who computes: processes of this machine, or a Ray cluster.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The Ray cluster. Default: $RAY_ADDRESS, or one on this machine."),
]

RunOptions: TypeAlias = Mapping[str, Any]  # mode, compute, device, dtype, attention and config, as the tasks take them


def _run_options(
    mode: Annotated[
        Mode,
        typer.Option(
            metavar="auto|hyper|dense",
            help="Keep the weights of a .bhk file as codes: where that is fast, wherever possible, or nowhere.",
        ),
    ] = Mode.auto,
    compute: Annotated[
        Compute, typer.Option(metavar="exact|int8", help="Arithmetic of the layers kept as codes.")
    ] = Compute.exact,
    device: Device = "cpu",
    dtype: Annotated[
        Dtype, typer.Option(metavar="float32|bfloat16|float16", help="Data type of the weights in memory.")
    ] = Dtype.float32,
    attention: Annotated[
        Attention,
        typer.Option(metavar="fused|package", help="Attention of bhk, which is faster, or of the model's package."),
    ] = Attention.fused,
    config: ConfigName = None,
) -> None:
    """The options of `with_run_options`."""


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_run_options`, such as --mode, in place of its parameter `run: RunOptions`."""
    added = inspect.signature(_run_options, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        values = {name: given.pop(name) for name in added}
        run = {name: value.value if isinstance(value, enum.Enum) else value for name, value in values.items()}
        command(**given, run=run)

    every = [option for name in own for option in (added.values() if name == "run" else (own[name],))]
    wrapped.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    return wrapped


def workers_of(engine: Engine, address: str | None, count: int | None, gpus: float | None = None) -> int | Ray | None:
    """Return what tasks take as `workers`.

    Raises:
        BadParameter: an option is given that only Ray has.
    """
    if engine is Engine.ray:
        from bhk.engines.ray_cluster import Ray

        return Ray(address, count, gpus or 0.0)
    for option, given in (("--ray-address", address), ("--gpus", gpus)):
        if given is not None:
            raise typer.BadParameter("needs --engine ray", param_hint=option)
    return count


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.")]
