"""A .bhk file into a model: `bhk.load_into`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import nn

from bhk.base.parallel import worker_count
from bhk.file.bhkfile import open_file
from bhk.hub.download import local_file
from bhk.nn.building import Progress, build
from bhk.nn.errors import LoadOptionError
from bhk.nn.hyperlinear import Compute
from bhk.nn.model_tensors import model_tensors, names_on_meta, unchanged_on_error
from bhk.nn.plan import Mode, Options, Plan, make_plan, refuse_empty


@dataclass(frozen=True)
class LoadReport:
    """What a loading did.

    Attributes:
        missing: names of tensors of the model that the file lacks; they are as they were.
        unexpected: names of tensors of the file that the model lacks.
        replaced: number of linear layers that are a `HyperLinear` now.
        bytes: memory of the model's parameters and buffers.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    replaced: int
    bytes: int


def load_into(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    mode: Mode = "hyper",
    compute: Compute = "exact",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    strict: bool = True,
    prefix: str = "",
    ignore: Iterable[str] = (),
    verify: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """Load a .bhk file into `model` and put the model in eval mode. If anything is raised, the model is as it was.

    The old tensors of a model that has some stay in memory until the new ones are complete. A model built under
    `bhk.nn.weights_on_meta()` or `torch.device("meta")` has none: it never takes more memory than what it is to become.

    Args:
        path: the file, or one on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]".
        mode: "hyper" keeps the codes of linear weights and puts a `HyperLinear` in place of each plain `nn.Linear` whose
            weight is coded by rows and not shared; "dense" decodes everything. `model` itself is not replaced.
        compute: how each `HyperLinear` multiplies; "exact" gives what the decoded weights give.
        device: where everything goes; None: each tensor to where it is in `model`, from the meta device to the CPU.
        dtype: of the floating tensors; None: each as it is in `model`.
        strict: refuse tensors that only the file or only the model has. Shapes have to agree in any case.
        prefix: what the names in the file have before those in the model. Tensors without it are passed over.
        ignore: patterns (as in fnmatch) of names, without the prefix, that only one of the two may have.
        verify: check the hash of each stream.
        threads: threads to decode on; by default one a core.
        progress: called with (bytes of dense tensors done, all bytes).

    Raises:
        HubError: the Hub did not give the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        LoadOptionError: `mode`, `compute`, `device` or `dtype` is none that there is.
        MismatchError: names, shapes or kinds of number of file and model differ; the message says what may be the reason.
        NoDataError: a tensor of the model on the meta device is not in the file.
        OutOfMemoryError: the device has no room.
    """
    options = Options(mode, compute, usable_device(device), dtype, strict, prefix, tuple(ignore))
    _check(options)
    workers = worker_count(threads)
    with open_file(local_file(path), verify=verify) as file:
        plan = make_plan(model, file, options)
        changes = build(file, plan, options, workers, progress)
    with unchanged_on_error(model):
        for change in changes:
            setattr(change.module, change.attribute, change.value)
        model.eval()
        refuse_empty(names_on_meta(model))
    return _report(model, plan)


def usable_device(device: torch.device | str | None) -> torch.device | None:
    """Return the device after a first use of it; None for None.

    Raises:
        LoadOptionError: it cannot be used.
    """
    if device is None:
        return None
    try:
        known = torch.device(device)
        # With its index: what "cuda" means without one is each thread's own.
        return torch.empty(0, device=known).device if known.type != "meta" else known
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise LoadOptionError(f"device {str(device)!r} cannot be used ({reason}); choose another one") from None


def _check(options: Options) -> None:
    for name, value, choices in (
        ("mode", options.mode, get_args(Mode)),
        ("compute", options.compute, get_args(Compute)),
    ):
        if value not in choices:
            raise LoadOptionError(f"{name} {value!r} is unknown; choose {' or '.join(map(repr, choices))}")
    if options.device is not None and options.device.type == "meta":
        raise LoadOptionError("device 'meta' holds no data; choose another one")
    dtype = options.dtype
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise LoadOptionError(f"dtype {dtype} is no floating dtype, which weights need; choose another one")


def _report(model: nn.Module, plan: Plan) -> LoadReport:
    return LoadReport(
        missing=plan.missing,
        unexpected=plan.unexpected,
        replaced=len(plan.replacements),
        bytes=sum(target.tensor.nbytes for target in model_tensors(model)),
    )
