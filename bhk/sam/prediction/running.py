"""What the tasks that run a model share: loading it unless it is loaded, and measuring time and memory."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from bhk.base.progress import Progress
from bhk.hub.address import public_name
from bhk.nn.device import Device, device_of
from bhk.nn.errors import LoadOptionError
from bhk.nn.hyperlinear import Compute
from bhk.nn.loading import load_options
from bhk.nn.plan import Mode
from bhk.nn.precision import Dtype
from bhk.sam.attention.fuse import Attention
from bhk.sam.configuration import Config
from bhk.sam.load import load_model


@dataclass(frozen=True)
class RunOptions:
    """The options of `bhk.load`, with its default values."""

    mode: Mode = "auto"
    compute: Compute = "exact"
    device: Device | None = None
    dtype: Dtype | None = None
    attention: Attention = "fused"
    verify: bool = True
    config: Config | None = None
    threads: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class ModelFile:
    """The file of a model that was run.

    Attributes:
        path: the file or address, as it was given.
        family: the model's family, such as "sam2".
        variant: the published model that it is; None if it is none of them.
        ratio: how many times smaller the .bhk file is than its dense tensors; None for a checkpoint.
    """

    path: str
    family: str
    variant: str | None
    ratio: float | None


@dataclass(frozen=True)
class Running:
    """A model that can be run.

    Attributes:
        module: the model, in eval mode.
        seconds: how long it took to load; 0 for a module.
        file: the file that it comes from; None for a module.
        notes: what was assumed about it, for the user.
    """

    module: nn.Module
    seconds: float = 0.0
    file: ModelFile | None = None
    notes: tuple[str, ...] = ()


def load_to_run(model: nn.Module | str | os.PathLike[str], options: RunOptions, *, video: bool = False) -> Running:
    """Load a model from a file, for clips if `video`, or take a module as it is.

    Raises:
        LoadOptionError: options of loading were given for a module.
        LoadError, ReadError, FormatError, …: see `bhk.load`.
    """
    if isinstance(model, nn.Module):
        if given := [name for name, value in vars(options).items() if value != getattr(RunOptions, name)]:
            raise LoadOptionError(f"{', '.join(given)}: these options are for models that are loaded from a file")
        return Running(model.eval())
    started = time.perf_counter()
    settings = {name: value for name, value in vars(options).items() if name not in ("attention", "verify", "config")}
    loaded = load_model(
        model,
        load_options(**settings),
        attention=options.attention,
        video=video,
        verify=options.verify,
        config=options.config,
    )
    seconds = now(loaded.module) - started
    entry = loaded.entry
    file = ModelFile(public_name(model), entry.family, entry.variant, loaded.ratio)
    return Running(loaded.module, seconds, file, () if loaded.note is None else (loaded.note,))


def now(module: nn.Module) -> float:
    """Return the time in seconds, after waiting for the module's device to finish its work."""
    if device_of(module).type == "cuda":
        torch.cuda.synchronize(device_of(module))
    return time.perf_counter()


def peak_bytes(module: nn.Module) -> int | None:
    """Return the highest memory use since the process began: of tensors on a GPU, else of the whole process.

    Returns:
        bytes, or None where the system does not tell.
    """
    device = device_of(module)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
