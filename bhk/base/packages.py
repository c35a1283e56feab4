"""Optional packages: importing them, and saying how to install a missing one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from bhk.base.errors import BhkError


class MissingPackageError(BhkError):
    """A package that is needed is not installed, or cannot be imported."""


@dataclass(frozen=True)
class Package:
    """An optional package.

    Attributes:
        name: name of the module to import.
        install: how to install it, as the end of a sentence: "run: pip install pillow".
    """

    name: str
    install: str


def is_installed(package: Package) -> bool:
    """Tell whether a package can be found, without importing it. Folders of that name, such as a clone, do not count."""
    spec = importlib.util.find_spec(package.name)
    return spec is not None and spec.origin is not None


def import_package(choices: Sequence[Package]) -> ModuleType:
    """Import the first of `choices` that is installed.

    Raises:
        MissingPackageError: none is installed, or importing it fails; the message says how to install it.
    """
    package = next(filter(is_installed, choices), None)
    if package is None:
        first, *others = choices
        alternatives = "".join(f"; or for {other.name} {other.install}" for other in others)
        raise MissingPackageError(
            f"this needs the package {first.name}, which is not installed; {first.install}{alternatives}"
        )
    try:
        return importlib.import_module(package.name)
    except ImportError as error:
        raise MissingPackageError(
            f"the package {package.name} is installed but cannot be imported ({error}); {package.install}"
        ) from error
