"""The model builders of the packages, under the packages' names and with their arguments; they also load .bhk files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeGuard

import msgspec
import torch
from torch import nn

from bhk.base.errors import BhkError, listed
from bhk.base.packages import import_package, places_of
from bhk.container.header import ModelEntry
from bhk.container.reader import is_bhk
from bhk.file.bhkfile import open_downloaded
from bhk.hub.address import address_of
from bhk.nn.device import Device
from bhk.nn.loading import load_file, load_options
from bhk.nn.meta import weights_on_meta
from bhk.sam.build import UnknownModelError, build_model, registered
from bhk.sam.configuration import ConfigurationError, configurations_in_packages
from bhk.sam.packages import SAM2
from bhk.sam.variants import FAMILIES, VARIANTS, title_of

Checkpoint = str | os.PathLike[str] | None
Builder = Callable[..., nn.Module]


class WrongModelError(UnknownModelError):
    """A file holds another model than the builder makes."""


class UnknownRegistryKeyError(KeyError, UnknownModelError):
    """A registry does not have the key."""

    __str__ = BhkError.__str__  # KeyError's puts the message in quotes


class Registry(Mapping[str, Builder]):
    """A package's `sam_model_registry`, whose builders also load .bhk files.

    `registry[key](checkpoint=None, **options)` builds the module. A checkpoint that ends in .bhk or is on the Hub
    ("hf://user/repo[/file.bhk][@revision]", "user/repo") is loaded as by `bhk.load_into`, with `options`. Any other
    checkpoint goes to the package's own builder.

    >>> from bhk.sam import sam_model_registry
    >>> list(sam_model_registry)
    ['default', 'vit_h', 'vit_l', 'vit_b', 'vit_t', 'edge_sam']
    >>> sam = sam_model_registry["vit_h"](checkpoint="sam_vit_h.bhk", dtype="bfloat16")  # doctest: +SKIP
    """

    def __init__(self, variants: Mapping[str, str]) -> None:
        self._variants = variants

    def __getitem__(self, key: str) -> Builder:
        if key not in self._variants:
            raise UnknownRegistryKeyError(f"there is no model {key!r}; choose from {listed(self._variants)}")
        variant = self._variants[key]

        def build(checkpoint: Checkpoint = None, **options: Any) -> nn.Module:
            return _build_variant(key, variant, checkpoint, options)

        return build

    def __iter__(self) -> Iterator[str]:
        return iter(self._variants)

    def __len__(self) -> int:
        return len(self._variants)


sam_model_registry = Registry(
    {
        "default": "sam_vit_h",
        "vit_h": "sam_vit_h",
        "vit_l": "sam_vit_l",
        "vit_b": "sam_vit_b",
        "vit_t": "mobile_sam",
        "edge_sam": "edge_sam",
    }
)
sam_hq_model_registry = Registry(
    {
        "default": "sam_hq_vit_h",
        "vit_h": "sam_hq_vit_h",
        "vit_l": "sam_hq_vit_l",
        "vit_b": "sam_hq_vit_b",
        "vit_tiny": "sam_hq_vit_tiny",
    }
)


def build_sam2(
    config_file: str, ckpt_path: Checkpoint = None, device: Device | None = None, **options: Any
) -> nn.Module:
    """Build a SAM 2 as `sam2.build_sam.build_sam2` does; `ckpt_path` may also be a .bhk file or on the Hub.

    >>> config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    >>> sam2 = bhk.sam.build_sam2(config, "sam2.1_hiera_tiny.bhk")  # doctest: +SKIP
    >>> untrained = bhk.sam.build_sam2(config, device="cpu")
    >>> type(untrained).__name__
    'SAM2Base'

    Args:
        config_file, ckpt_path, options: as in `sam2`.
        device: where the model goes; None means a GPU if there is one that CUDA knows, else the CPU.

    Raises:
        HubError: the Hub did not deliver the file.
        MissingPackageError: `sam2` is not installed.
        WrongModelError: the .bhk file was made from another configuration.
        LoadError: the file's tensors do not fit the configuration.
    """
    return _build_sam2("build_sam2", config_file, ckpt_path, device, options)


def build_sam2_video_predictor(
    config_file: str, ckpt_path: Checkpoint = None, device: Device | None = None, **options: Any
) -> nn.Module:
    """Build a predictor of masks in videos as `sam2.build_sam.build_sam2_video_predictor` does; see `build_sam2`.

    >>> predictor = bhk.sam.build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml")
    >>> type(predictor).__name__
    'SAM2VideoPredictor'
    """
    return _build_sam2("build_sam2_video_predictor", config_file, ckpt_path, device, options)


def _build_variant(key: str, name: str, checkpoint: Checkpoint, options: dict[str, Any]) -> nn.Module:
    variant = VARIANTS[name]
    family = FAMILIES[variant.family]
    if not _is_ours(checkpoint):
        model: nn.Module = registered(import_package(family.packages), key)(checkpoint=checkpoint, **options)
        return model
    verify = options.pop("verify", True)
    loading = load_options(**{"ignore": family.extra, **options})
    expected = ModelEntry(family.name, name, msgspec.to_builtins(variant.architecture))
    with open_downloaded(checkpoint, verify=verify) as file:
        found = file.container.header.model
        if found and (found.family != family.name or (family.any_size and _sizes(found) != _sizes(expected))):
            raise WrongModelError(
                f"{checkpoint} {_holds(found)}, but {key!r} is {variant.title}; use bhk.load for any model"
            )
        with weights_on_meta():
            model = build_model(expected)
        load_file(model, file, loading)
    return model


def _build_sam2(
    name: str, config_file: str, checkpoint: Checkpoint, device: Device | None, options: dict[str, Any]
) -> nn.Module:
    import_package((SAM2,))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    original: Builder = getattr(importlib.import_module("sam2.build_sam"), name)
    located = _located(config_file)

    def build(checkpoint: Checkpoint, device: Device) -> nn.Module:
        try:
            return original(located, checkpoint, device, **options)
        except Exception as error:  # hydra, on which only sam2 depends, has its own kinds
            if type(error).__module__.partition(".")[0] not in ("hydra", "omegaconf"):
                raise
            raise ConfigurationError(
                f"sam2 cannot use the configuration {config_file}: {_first_line(error)}"
            ) from error

    if not _is_ours(checkpoint):
        return build(checkpoint, device)
    with open_downloaded(checkpoint) as file:
        found = file.container.header.model
        if found is not None and not _may_be(config_file, found):
            raise WrongModelError(
                f"{checkpoint} {_holds(found)}, but {config_file} is another model; use bhk.load for any"
            )
        with weights_on_meta():
            model = build(None, "cpu")
        training = model.training
        load_file(model, file, load_options(device=device))
    return model.train(training)


def _located(config_file: str) -> str:
    """Return a configuration's path within the package `sam2`; forks of it keep theirs in another folder.

    Raises:
        ConfigurationError: the package has none of that name.
    """
    folders = [Path(place) for place in places_of(SAM2)]
    if config_file.startswith(("/", "file:", "pkg:")) or any((folder / config_file).is_file() for folder in folders):
        return config_file
    found = configurations_in_packages(config_file)
    if not found:
        every = sorted(path.name for folder in folders for path in folder.rglob("*.yaml"))
        raise ConfigurationError(
            f"sam2 has no configuration {config_file}; it has {listed(dict.fromkeys(every)) or 'none'}"
        )
    return next(found[0].relative_to(folder).as_posix() for folder in folders if found[0].is_relative_to(folder))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _is_ours(checkpoint: Checkpoint) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether a checkpoint is a .bhk file or on the Hub; the package itself reads any other."""
    return checkpoint is not None and (address_of(checkpoint) is not None or is_bhk(checkpoint))


def _sizes(entry: ModelEntry) -> object:
    """Return the arguments of an entry with the types that JSON gives them, to compare."""
    return msgspec.json.decode(msgspec.json.encode(entry.arguments))


def _holds(entry: ModelEntry) -> str:
    return f"holds {title_of(entry)}"


def _may_be(config_file: str, entry: ModelEntry) -> bool:
    """Return whether a SAM 2 of this entry can have this configuration: its own published one, or an unknown one."""
    if entry.family != "sam2":
        return False
    published = {PurePath(variant.config).name: variant.name for variant in VARIANTS.values() if variant.config}
    return published.get(PurePath(config_file).name, entry.variant) == entry.variant
