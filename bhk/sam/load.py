"""From a file to a running model: `bhk.load`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bhk.base.progress import Progress
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.companions import companions_of
from bhk.checkpoint.tokenizer import fetch_tokenizer, tokenizer_files
from bhk.container.header import ModelEntry
from bhk.container.reader import Container, is_bhk
from bhk.file.bhkfile import BhkFile
from bhk.hub.address import Address, address_of
from bhk.hub.download import local_file
from bhk.nn.device import Device
from bhk.nn.errors import MismatchError
from bhk.nn.hyperlinear import Compute
from bhk.nn.loading import load_file, load_options
from bhk.nn.meta import Most, weights_on_meta
from bhk.nn.model_tensors import model_tensors
from bhk.nn.plan import LoadOptions, Mode, named_tensors
from bhk.nn.precision import Dtype
from bhk.sam.architecture import Configured
from bhk.sam.attention.fuse import Attention, check_attention, fuse_attention
from bhk.sam.build import UnknownModelError, architecture_of, build_model
from bhk.sam.checkpoints import check_used, read_checkpoint
from bhk.sam.configuration import Config, Configuration, given_configuration
from bhk.sam.original_sam3 import vocabulary_of
from bhk.sam.recognise import Recognised, recognise
from bhk.sam.variants import FAMILIES, VARIANTS, WITHIN, is_buildable


@dataclass(frozen=True)
class LoadedModel:
    """A model that was built from a file.

    Attributes:
        module: the model, in eval mode.
        entry: what the file says about the model, or what a checkpoint's tensors say.
        ratio: how many times smaller the .bhk file is than its dense tensors; None for a checkpoint.
        source: the file or address from which the .bhk file was made; None for a checkpoint, or if it is not known.
        note: what was assumed about the model, for the user; None if nothing was.
    """

    module: nn.Module
    entry: ModelEntry
    ratio: float | None
    source: str | None
    note: str | None = None


def load(
    path_or_repo: str | os.PathLike[str],
    *,
    mode: Mode = "auto",
    compute: Compute = "exact",
    device: Device | None = None,
    dtype: Dtype | None = None,
    attention: Attention = "fused",
    video: bool = False,
    verify: bool = True,
    config: Config | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Build the model that a file holds, load its weights, and put the model in eval mode.

    The model is an instance of the class of its own package (`segment_anything`, `sam2`, `transformers`, …). The weights
    of layers that hold codes are never in memory in dense form.

    >>> model = bhk.load("demo_sam.bhk", device="cpu", dtype="float32")
    >>> type(model).__name__, model.training
    ('Sam', False)

    Args:
        path_or_repo: a .bhk file, a folder that holds one, or a repository on the Hugging Face Hub, "user/repo" or
            "hf://user/repo[/file.bhk][@revision]". Without a file name, it means model.bhk or the only .bhk file. A local
            checkpoint of the family works too; its weights are dense in either `mode`.
        mode, compute, verify, threads, progress: see `bhk.load_into`.
        device: where the model goes, such as "cuda"; None means the CPU.
        dtype: dtype of all floating-point tensors, such as "bfloat16"; None means float32.
        attention: "fused" puts modules of bhk in place of the package's attention, see `bhk.sam.fuse_attention`: the same
            results up to rounding, faster, in less memory. "package" keeps the package's own.
        video: build the package's class for videos, such as `SAM2VideoPredictor`, instead of that for pictures.
        config: what the file and its tensors do not say, such as the size of SAM 2's pictures: a YAML file or a
            config.json, the name of a YAML file in the model's package, or of a published model (see `bhk.models`). It
            takes the place of what the file says.

    Raises:
        ConfigurationError: `config` is none, or one of another model.
        HubError: the Hub did not deliver the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        UnknownModelError: the file does not say which model it holds, bhk cannot build that model, or `video` was asked of a
            model that has no memory of earlier frames.
        MissingPackageError: the model's package is not installed; the message says how to install it.
        CheckpointError: the checkpoint cannot be read.
        LoadError: see `bhk.load_into`.
    """
    options = load_options(mode=mode, compute=compute, device=device, dtype=dtype, threads=threads, progress=progress)
    loaded = load_model(path_or_repo, options, attention=attention, video=video, verify=verify, config=config)
    if loaded.note is not None:
        warnings.warn(loaded.note, stacklevel=2)
    return loaded.module


def load_model(
    path_or_repo: str | os.PathLike[str],
    options: LoadOptions,
    *,
    attention: Attention = "fused",
    video: bool = False,
    verify: bool = True,
    config: Config | None = None,
) -> LoadedModel:
    """Build the model that a file holds, and return it with what the file says about it; see `load`."""
    check_attention(attention)
    path = local_file(path_or_repo)
    is_checkpoint = path.exists() and not is_bhk(path)
    if is_checkpoint:
        loaded = _load_checkpoint(path, options, video, config)
    else:
        loaded = _load_bhk(path, options, video, verify, config)
    _tell_tokenizer(loaded.module, path, loaded.source, address_of(path_or_repo))
    if attention == "fused":
        is_dense = is_checkpoint or options.mode == "dense"
        fuse_attention(loaded.module, compute="exact" if is_dense else options.compute)
    return loaded


def _tell_tokenizer(model: nn.Module, path: Path, source: str | None, address: Address | None = None) -> None:
    """Tell a model that reads texts where its tokenizer is; one of transformers where transformers itself would note it."""
    config, vocabulary = getattr(model, "config", None), vocabulary_of(model)
    if vocabulary is None and not any(hasattr(config, part) for part in ("text_config", "detector_config")):
        return
    if address is not None:
        fetch_tokenizer(address)
    weights = path / "any" if path.is_dir() else path
    found = tokenizer_files(weights, source)
    place = found[0].parent if found else weights.parent
    if vocabulary is not None:
        vocabulary.place = place
    else:
        config._name_or_path = os.fspath(place)  # type: ignore[union-attr]


def _load_bhk(path: Path, options: LoadOptions, video: bool, verify: bool, config: Config | None) -> LoadedModel:
    with BhkFile(Container.open(path), verify=verify) as file:
        entry = model_entry(file.container, config)
        model = _built(entry, (layer.shape for layer in file.layers), video=video)
        prefix, family = str(entry.arguments.get(WITHIN, "")), FAMILIES[entry.family]
        extra = () if video else family.extra
        load_file(
            model,
            file,
            replace(
                options,
                prefix=prefix,
                own_name=partial(family.name_in, video=video),
                ignore=extra,
                held=family.held,
            ),
        )
        return LoadedModel(model, entry, file.container.ratio, file.metadata.get("source.name"))


def _load_checkpoint(path: Path, options: LoadOptions, video: bool, config: Config | None) -> LoadedModel:
    checkpoint, recognised = read_checkpoint(path, config=config)
    model = dense_model(checkpoint, recognised, path, video=video)
    assert recognised is not None  # else dense_model raises
    model.to(device=options.device or "cpu", dtype=options.dtype or torch.float32)
    return LoadedModel(model, recognised.entry, None, None, recognised.note)


def dense_model(checkpoint: Checkpoint, recognised: Recognised | None, path: Path, *, video: bool = False) -> nn.Module:
    """Build the model of the family that a checkpoint holds, in eval mode, with the checkpoint's own tensors.

    Args:
        checkpoint, recognised: as `read_checkpoint` returns them.
        path: the checkpoint's name in errors.
        video: see `load`.

    Raises:
        UnknownModelError: bhk cannot build the model.
        MissingPackageError: the model's package is not installed.
        MismatchError: tensors are missing, unexpected, or of another shape.
    """
    fault = recognised.fault if recognised else "its tensors are not those of a model of the family"
    if recognised is None or fault is not None:
        remedy = "build it yourself" if recognised is None else recognised.remedy
        raise UnknownModelError(f"{path}: bhk cannot build this model, because {fault}; {remedy}")
    model = _built(recognised.entry, (tensor.shape for tensor in checkpoint.tensors.values()), video=video)
    family, cut = recognised.family, len(recognised.prefix)
    own = {
        family.name_in(name[cut:], video=video): tensor
        for name, tensor in checkpoint.all_values().items()
        if name.startswith(recognised.prefix)
    }
    fill(model, own, () if video else family.extra, path)
    _tell_tokenizer(model, path, checkpoint.source.name)
    return model.eval()


def _built(entry: ModelEntry, shapes: Iterable[tuple[int, ...]], *, video: bool) -> nn.Module:
    """Build a model without weights, not larger than a file's tensors, which have these shapes."""
    with weights_on_meta(most=Most.of(shapes)):
        return build_model(entry, video=video)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], ignore: Iterable[str], path: Path) -> None:
    """Put the tensors of a checkpoint into a model without weights; skip those that match a pattern of `ignore`.

    Raises:
        MismatchError: tensors are missing, unexpected, or of another shape.
    """

    def relevant(names: Iterable[str]) -> list[str]:
        return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in ignore)]

    complete = dict(tensors)
    for tied in model_tensors(model):  # the file may have a shared tensor under one of its names only
        found = next((tensors[name] for name in tied.names if name in tensors), None)
        if found is not None:
            complete |= {name: found for name in tied.names if name not in tensors}
    try:
        outcome = model.load_state_dict(complete, strict=False, assign=True)
    except RuntimeError as error:
        raise MismatchError(f"{path} does not fit {type(model).__name__}: {error}") from error
    missing, unexpected = relevant(outcome.missing_keys), relevant(outcome.unexpected_keys)
    if missing or unexpected:
        raise MismatchError(
            f"{path} does not fit {type(model).__name__}: {named_tensors(missing)} of the model not in the checkpoint, "
            f"{named_tensors(unexpected)} of the checkpoint not in the model",
            tuple(missing),
            tuple(unexpected),
        )


def model_entry(container: Container, config: Config | None = None) -> ModelEntry:
    """Return what an open .bhk file says about its model, after comparing that with its tensors.

    So nothing larger than those tensors is built. What `config` says takes the place of what the file says.

    Raises:
        ConfigurationError: `config` is none, or one of another model.
        UnknownModelError: the file does not say which model it holds, or its tensors are not those of that model.
    """
    name, entry = container.source.name, container.header.model
    shapes = {alias: layer.shape for layer in container.layers for alias in (layer.name, *layer.aliases)}
    if config is not None:
        given = given_configuration(config)
        return check_used(given, name, recognise(shapes, given)).entry
    if entry is None and companions_of(container.header.metadata):
        raise UnknownModelError(
            f"{name} holds a model of transformers outside the Segment Anything family; import bhk.transformers, and load "
            "its repository with from_pretrained of the model's class, or of transformers.AutoModel"
        )
    if entry is None:
        raise UnknownModelError(
            f"{name} does not say which model it holds; build the module yourself and load it with bhk.load_into"
        )
    if entry.family not in FAMILIES:
        return entry
    known = Configuration(name, variant=entry.variant) if entry.variant in VARIANTS else None
    found = recognise(shapes, known)
    if not is_buildable(entry) and found is not None and found.family.name == entry.family and found.fault is not None:
        raise UnknownModelError(f"{name}: bhk cannot build this model, because {found.fault}; {found.remedy}")
    architecture = architecture_of(entry)
    if isinstance(architecture, Configured):  # what is built from settings is compared with the tensors then
        return entry
    if found is None or found.architecture != architecture:
        raise UnknownModelError(
            f"{name} says that it holds {FAMILIES[entry.family].title} of sizes {entry.arguments}, but its tensors have other "
            "shapes; build the module yourself and load it with bhk.load_into"
        )
    return entry
