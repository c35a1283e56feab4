"""Finding the configuration of a model, which states what no tensor shows: beside its weights, in a module, or as given."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from torch import nn

from bhk.base.errors import OptionError, listed, shown
from bhk.base.packages import places_of
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.companions import CONFIG, MAX_BYTES, companions_beside, companions_of
from bhk.sam.packages import EFFICIENT_TAM, SAM2
from bhk.sam.settings import plain_settings
from bhk.sam.variants import FAMILIES, PREPARED_AS, VARIANTS

Config = str | os.PathLike[str]  # what a user gives as a configuration: a path or a name
_YAML = (".yaml", ".yml")
_WITH_YAML = (SAM2, EFFICIENT_TAM)


class ConfigurationError(OptionError):
    """What was given as a configuration is none."""


@dataclass(frozen=True)
class Configuration:
    """What is known about a model besides its tensors.

    Attributes:
        origin: where it comes from, for messages.
        settings: those of a JSON file, such as config.json of transformers, or of a module.
        document: the content of a YAML file, as `sam2` and its relatives have.
        variant: the name of the published model that it is.
    """

    origin: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)
    variant: str | None = None

    @property
    def model_type(self) -> str:
        """What transformers calls the kind of model; empty if there are no settings that say it."""
        return str(self.settings.get("model_type", ""))


def configuration_of(checkpoint: Checkpoint, module: nn.Module | None = None) -> Configuration | None:
    """Return the configuration that a module has, or that lies beside a checkpoint, or None."""
    if module is not None:
        return _of_module(module)
    text = companions_of(companions_beside(checkpoint)[0]).get(CONFIG)
    if text is not None:
        return Configuration(CONFIG, plain_settings(parse_object(text.encode())))
    return _beside(checkpoint.source.files[0]) if checkpoint.source.files else None


def _beside(file: Path) -> Configuration | None:
    """Return the YAML file named like a checkpoint, if it has settings of a model. Others may be of other models."""
    found = []
    for path in [path for suffix in _YAML if (path := file.with_suffix(suffix)).is_file()]:
        with contextlib.suppress(ConfigurationError):
            document = _yaml(path)
            if "model" in document or "trainer" in document:
                found.append(Configuration(path.name, document=document))
    return found[0] if len(found) == 1 else None


def _of_module(module: nn.Module) -> Configuration | None:
    if (prepared := getattr(module, PREPARED_AS, None)) in VARIANTS:
        return Configuration("the module", variant=prepared)
    package = type(module).__module__.partition(".")[0]
    for variant in VARIANTS.values():  # the class tells variants of equal tensors apart
        family = FAMILIES[variant.family]
        if (family.twins or variant.packages) and package in {p.name for p in variant.packages or family.packages}:
            return Configuration("the module", variant=variant.name)
    config: Any = getattr(module, "config", None)
    if not type(module).__module__.startswith("transformers.") or config is None:
        return None
    return Configuration("the module", plain_settings(config.to_dict()))


def given_configuration(given: Config) -> Configuration:
    """Return the configuration that a user names: a published model, a file, or a YAML file in an installed package.

    Raises:
        ConfigurationError: there is none of that name, or it cannot be read.
    """
    name, path = os.fspath(given), Path(given)
    if name in VARIANTS:
        return Configuration(name, variant=name)
    if path.is_dir():
        path /= CONFIG
    if not path.is_file():
        found = configurations_in_packages(name)
        if len({file.read_bytes() for file in found}) > 1:
            raise ConfigurationError(f"{shown(name)} could be {listed(found)}; give the path of one")
        path = found[0] if found else path
    if path.is_file():
        if path.suffix == ".json":
            return Configuration(path.name, settings=plain_settings(_json(path)))
        return Configuration(path.name, document=_yaml(path))
    published = next(
        (v.name for v in VARIANTS.values() if v.config and PurePath(v.config).name == PurePath(name).name), None
    )
    if published is None:
        raise ConfigurationError(
            f"there is no configuration {shown(name)}; give a YAML file or {CONFIG}, the name of a YAML file in the model's "
            f"package, or a name of `bhk models`"
        )
    return Configuration(name, variant=published)


def configurations_in_packages(name: str) -> list[Path]:
    """Return the YAML files of that name, or of that path from the package on, in installed packages that have such files."""
    wanted = PurePath(name if PurePath(name).suffix in _YAML else f"{name}{_YAML[0]}")
    folders = [Path(place) for package in _WITH_YAML for place in places_of(package)]
    files = sorted(file for folder in folders for file in folder.rglob(glob.escape(wanted.name)) if file.is_file())
    exact = [file for file in files for folder in folders if file == folder / wanted]
    return exact or files


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error
    if len(text) > MAX_BYTES:
        raise ConfigurationError(f"{path} has more than the {MAX_BYTES:,} bytes of a configuration")
    return text


def _json(path: Path) -> dict[str, Any]:
    try:
        return parse_object(_read(path))
    except StrictJsonError as error:
        raise ConfigurationError(f"{path} is {shown(error)}") from None


def _yaml(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file. One that repeats parts of itself is refused: they could stand for gigabytes."""
    import yaml

    text = _read(path)
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigurationError(f"{path} has aliases (*name); write them out")
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{path} is not YAML ({shown(error)})") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} holds no settings")
    return document
