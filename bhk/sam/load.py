"""A file to a running model: `bhk.load`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn

from bhk.base.errors import listed
from bhk.base.names import BHK_SUFFIX
from bhk.checkpoint import AlreadyBhkError, Checkpoint
from bhk.checkpoint.companions import companions_of
from bhk.container.header import ModelEntry
from bhk.container.reader import Container
from bhk.hub.download import local_file
from bhk.nn import load_into, weights_on_meta
from bhk.nn.building import Progress
from bhk.nn.errors import MismatchError
from bhk.nn.hyperlinear import Compute
from bhk.nn.loading import usable_device
from bhk.nn.model_tensors import model_tensors
from bhk.nn.plan import Mode
from bhk.sam.build import UnknownModelError, architecture_of, build_model
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import FILE as CONFIG
from bhk.sam.configuration import deviations
from bhk.sam.recognise import Recognised, recognise
from bhk.sam.variants import FAMILIES


def load(
    path_or_repo: str | os.PathLike[str],
    *,
    mode: Mode = "hyper",
    compute: Compute = "exact",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Build the model that a file holds, and load the file into it; the model is in eval mode.

    The model is never in memory both densely and as codes.

    Args:
        path_or_repo: a .bhk file, a folder with one, or a repository of the Hugging Face Hub, "user/repo" or
            "hf://user/repo[/file.bhk][@revision]"; without a name of a file, its model.bhk, or its only .bhk file. Or a
            local checkpoint of the family, whose weights are dense in any `mode`.
        mode, compute, verify, threads, progress: see `bhk.load_into`.
        device: where the model goes; None: the CPU.
        dtype: of the floating tensors; None: float32.

    Raises:
        HubError: the Hub did not give the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        UnknownModelError: the file does not say what it holds, or nothing that bhk can build.
        MissingPackageError: the package that the model comes from is not installed; the message says how to get it.
        CheckpointError: the checkpoint cannot be read.
        LoadError: see `bhk.load_into`.
    """
    path = local_file(path_or_repo)
    if path.suffix != BHK_SUFFIX and path.exists():
        with contextlib.suppress(AlreadyBhkError):  # one of another name
            return _load_checkpoint(path, device, dtype)
    entry = model_entry(path)
    with weights_on_meta():
        model = build_model(entry)
    load_into(
        model,
        path,
        mode=mode,
        compute=compute,
        device=device,
        dtype=dtype,
        ignore=FAMILIES[entry.family].extra,
        verify=verify,
        threads=threads,
        progress=progress,
    )
    return model


def _load_checkpoint(path: Path, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Module:
    model = dense_model(*read_checkpoint(path), path)
    return model.to(device=usable_device(device) or "cpu", dtype=dtype or torch.float32)


def dense_model(checkpoint: Checkpoint, recognised: Recognised | None, path: Path) -> nn.Module:
    """Build the model of the family that a checkpoint belongs to, in eval mode; its tensors are those of the checkpoint.

    Args:
        checkpoint, recognised: as `read_checkpoint` returns them.
        path: what to call the checkpoint in errors.

    Raises:
        UnknownModelError: bhk does not know how to build it.
        MissingPackageError: the package that the model comes from is not installed.
        MismatchError: tensors are missing, too many, or of another shape.
    """
    odd = deviations(recognised.family.name, checkpoint.source.files[0].parent) if recognised else ()
    if recognised is None or recognised.architecture is None or odd:
        reason = f"its {CONFIG} has {', '.join(odd)}" if odd else "its tensors are none of a whole model of the family"
        raise UnknownModelError(f"{path}: bhk does not know how to build this model: {reason}; build it yourself")
    with weights_on_meta():
        model = build_model(recognised.entry)
    tensors = dict(checkpoint.tensors)
    for name, aliases in checkpoint.aliases.items():
        tensors |= dict.fromkeys(aliases, tensors[name])
    fill(model, tensors, recognised.family.extra, path)
    return model.eval()


def fill(model: nn.Module, tensors: Mapping[str, Tensor], ignore: Iterable[str], path: Path) -> None:
    """Put the tensors of a checkpoint into a model without weights, but those that match a pattern of `ignore`.

    Raises:
        MismatchError: tensors are missing, too many, or of another shape.
    """

    def counted(names: Iterable[str]) -> list[str]:
        return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in ignore)]

    complete = dict(tensors)
    for tied in model_tensors(model):  # of a shared tensor, the file may have one name only
        found = next((tensors[name] for name in tied.names if name in tensors), None)
        if found is not None:
            complete |= {name: found for name in tied.names if name not in tensors}
    try:
        outcome = model.load_state_dict(complete, strict=False, assign=True)
    except RuntimeError as error:
        raise MismatchError(f"{path} does not fit {type(model).__name__}: {error}") from error
    missing, unexpected = counted(outcome.missing_keys), counted(outcome.unexpected_keys)
    if missing or unexpected:
        raise MismatchError(
            f"{path} does not fit {type(model).__name__}: it lacks {len(missing)} tensors ({listed(missing, 3)}) "
            f"and has {len(unexpected)} too many ({listed(unexpected, 3)})",
            tuple(missing),
            tuple(unexpected),
        )


def model_entry(path: Path) -> ModelEntry:
    """Return what a .bhk file says of its model, once its tensors say the same: nothing larger than them is built.

    Raises:
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        UnknownModelError: the file does not say what it holds, or its tensors are others.
    """
    with Container.open(path) as container:
        entry, layers, metadata = container.header.model, container.layers, container.header.metadata
    if entry is None and companions_of(metadata):
        raise UnknownModelError(
            f"{path} holds a model of transformers that is none of Segment Anything; import bhk.transformers, and load its "
            "repository with from_pretrained of the model's class, or of transformers.AutoModel"
        )
    if entry is None:
        raise UnknownModelError(
            f"{path} does not say which model it holds; build the module yourself and load it with bhk.load_into"
        )
    shapes = {name: layer.shape for layer in layers for name in (layer.name, *layer.aliases)}
    found = recognise(shapes)
    if entry.family in FAMILIES and entry.arguments and (found is None or found.architecture != architecture_of(entry)):
        raise UnknownModelError(
            f"{path} says that it holds a {entry.family} model of sizes {entry.arguments}, but its tensors are others; "
            "build the module yourself and load it with bhk.load_into"
        )
    return entry
