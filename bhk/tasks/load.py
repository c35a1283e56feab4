"""A .bhk file to a running model: `bhk.load`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from bhk.checkpoint.hub import SCHEME, fetch_file, looks_like_repository, parse_address
from bhk.container.header import ModelEntry
from bhk.container.reader import Container
from bhk.nn import load_into, weights_on_meta
from bhk.nn.building import Progress
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.sam.build import UnknownModelError, architecture_of, build_model
from bhk.sam.recognise import recognise
from bhk.sam.variants import FAMILIES

SUFFIX = ".bhk"
HUB_FILE = "model" + SUFFIX


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
    """Build the model that a .bhk file says it holds, and load the file into it; the model is in eval mode.

    The model is never in memory both densely and as codes.

    Args:
        path_or_repo: a .bhk file, or a repository of the Hugging Face Hub, "user/repo" or "hf://user/repo[/file.bhk]";
            without a name of a file, its model.bhk.
        mode, compute, verify, threads, progress: see `bhk.load_into`.
        device: where the model goes; None: the CPU.
        dtype: of the floating tensors; None: float32.

    Raises:
        HubError: the Hub did not give the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        UnknownModelError: the file does not say what it holds, or nothing that bhk can build.
        MissingPackageError: the package that the model comes from is not installed; the message says how to get it.
        LoadError: see `bhk.load_into`.
    """
    path = _local(path_or_repo)
    entry = _entry(path)
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


def _local(path_or_repo: str | os.PathLike[str]) -> Path:
    text = os.fspath(path_or_repo)
    if not text.startswith(SCHEME) and (text.endswith(SUFFIX) or not looks_like_repository(text)):
        return Path(path_or_repo)
    address = parse_address(text)
    name = address.path or HUB_FILE
    return fetch_file(address, name if name.endswith(SUFFIX) else f"{name}/{HUB_FILE}")


def _entry(path: Path) -> ModelEntry:
    """Return what the file says of its model, once its tensors say the same: nothing larger than them is built."""
    with Container.open(path) as container:
        entry, layers = container.header.model, container.layers
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
