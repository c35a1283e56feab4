"""The builders of the packages, under their names and with their arguments, which also take a .bhk file for a checkpoint.

from bhk.sam import sam_model_registry
sam = sam_model_registry["vit_h"](checkpoint="sam_vit_h.bhk")  # or "hf://user/repo"
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import msgspec
from torch import nn

from bhk.base.errors import listed
from bhk.base.names import BHK_SUFFIX
from bhk.base.packages import import_package
from bhk.container.header import ModelEntry
from bhk.container.reader import Container
from bhk.hub.address import address_of
from bhk.hub.download import local_file
from bhk.nn import load_into, weights_on_meta
from bhk.sam.architecture import Sam2
from bhk.sam.build import UnknownModelError, build_model, registered, sam2_config
from bhk.sam.packages import SAM2
from bhk.sam.variants import FAMILIES, VARIANTS, title_of

Checkpoint = str | os.PathLike[str] | None
Builder = Callable[..., nn.Module]


class WrongModelError(UnknownModelError):
    """A file holds another model than the builder makes."""


class UnknownKeyError(KeyError, UnknownModelError):
    """A registry has no such key."""

    __str__ = Exception.__str__  # KeyError's puts the message in quotes


class Registry(Mapping[str, Builder]):
    """A package's `sam_model_registry`.

    `registry[key](checkpoint=None, **options)` builds the module. A checkpoint that ends in .bhk, or is on the Hub
    ("hf://user/repo[/file.bhk][@revision]", "user/repo"), is loaded by `bhk.load_into`, with `options`; anything else goes
    to the package's own builder.
    """

    def __init__(self, variants: Mapping[str, str]) -> None:
        self._variants = variants

    def __getitem__(self, key: str) -> Builder:
        if key not in self._variants:
            raise UnknownKeyError(f"there is no model {key!r}; choose from {listed(self._variants)}")
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


def build_sam2(config_file: str, ckpt_path: Checkpoint = None, device: str = "cuda", **options: Any) -> nn.Module:
    """Build a SAM 2 by `sam2.build_sam.build_sam2`, whose arguments these are; `ckpt_path` may end in .bhk, or be on the Hub.

    Raises:
        HubError: the Hub did not give the file.
        MissingPackageError: `sam2` is not installed.
        WrongModelError: the .bhk file is of another configuration.
        LoadError: its tensors are not those of the configuration.
    """
    return _build_sam2("build_sam2", config_file, ckpt_path, device, options)


def build_sam2_video_predictor(
    config_file: str, ckpt_path: Checkpoint = None, device: str = "cuda", **options: Any
) -> nn.Module:
    """Build a predictor of masks in films by `sam2.build_sam.build_sam2_video_predictor`; see `build_sam2`."""
    return _build_sam2("build_sam2_video_predictor", config_file, ckpt_path, device, options)


def _build_variant(key: str, name: str, checkpoint: Checkpoint, options: dict[str, Any]) -> nn.Module:
    variant = VARIANTS[name]
    family = FAMILIES[variant.family]
    path = _bhk_file(checkpoint)
    if path is None:
        model: nn.Module = registered(import_package(family.packages), key)(checkpoint=checkpoint, **options)
        return model
    expected = ModelEntry(family.name, name, msgspec.to_builtins(variant.architecture))
    found = _entry(path)
    if found is not None and (found.family != family.name or (family.any_size and _sizes(found) != _sizes(expected))):
        raise WrongModelError(
            f"{checkpoint} {_holds(found)}, but {key!r} is {variant.title}; use bhk.load for any model"
        )
    with weights_on_meta():
        model = build_model(expected)
    load_into(model, path, ignore=family.extra, **options)
    return model


def _build_sam2(name: str, config_file: str, checkpoint: Checkpoint, device: str, options: dict[str, Any]) -> nn.Module:
    import_package((SAM2,))
    build: Builder = getattr(importlib.import_module("sam2.build_sam"), name)
    path = _bhk_file(checkpoint)
    if path is None:
        return build(config_file, checkpoint, device, **options)
    found = _entry(path)
    if found is not None and not _may_be(config_file, found):
        raise WrongModelError(f"{checkpoint} {_holds(found)}, but {config_file} is another model; use bhk.load for any")
    with weights_on_meta():
        model = build(config_file, None, "cpu", **options)
    training = model.training
    load_into(model, path, device=device)
    return model.train(training)


def _bhk_file(checkpoint: Checkpoint) -> Path | None:
    """Return the .bhk file that is meant, here or fetched from the Hub; None: a checkpoint for the package itself."""
    if checkpoint is None or (PurePath(checkpoint).suffix != BHK_SUFFIX and address_of(checkpoint) is None):
        return None
    return local_file(checkpoint)


def _entry(path: Path) -> ModelEntry | None:
    with Container.open(path) as container:
        return container.header.model


def _sizes(entry: ModelEntry) -> object:
    """Return the arguments of an entry as JSON gives them, to compare."""
    return msgspec.json.decode(msgspec.json.encode(entry.arguments))


def _holds(entry: ModelEntry) -> str:
    return f"holds {title_of(entry.family, entry.variant)}"


def _may_be(config_file: str, entry: ModelEntry) -> bool:
    """Tell whether the weights may be those of a configuration: its own published one, or one that bhk does not know."""
    if entry.family != "sam2":
        return False
    published = {
        PurePath(sam2_config(variant.architecture)).name: variant.name
        for variant in VARIANTS.values()
        if isinstance(variant.architecture, Sam2)
    }
    return published.get(PurePath(config_file).name, entry.variant) == entry.variant
