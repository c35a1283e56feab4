"""Packages that may be missing: importing them, and saying how to install them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
        mark: path of a file in it that other packages of that name do not have; empty if there are no others.
    """

    name: str
    install: str
    mark: str = ""


def is_installed(package: Package) -> bool:
    """Tell whether a package can be found, without importing it. Folders of that name, such as a clone, do not count."""
    spec = importlib.util.find_spec(package.name)
    if spec is None or spec.origin is None:
        return False
    return not package.mark or any(
        Path(place, package.mark).is_file() for place in spec.submodule_search_locations or ()
    )


def places_of(package: Package) -> tuple[str, ...]:
    """Return the folders of an installed package, without importing it; none if it is not installed."""
    spec = importlib.util.find_spec(package.name) if is_installed(package) else None
    return () if spec is None else tuple(spec.submodule_search_locations or ())


def import_package(choices: Sequence[Package]) -> ModuleType:
    """Import the first of `choices` that is installed.

    Raises:
        MissingPackageError: none is installed, or importing it fails; the message says how to install it.
    """
    package = next(filter(is_installed, choices), None)
    if package is None:
        first, *others = choices
        alternatives = "".join(f"; or for {other.name} {other.install}" for other in others)
        another = first.mark and is_installed(Package(first.name, first.install))
        fault = f"but the one installed is another, without {first.mark}" if another else "which is not installed"
        raise MissingPackageError(f"this needs the package {first.name}, {fault}; {first.install}{alternatives}")
    try:
        return importlib.import_module(package.name)
    except ImportError as error:
        raise MissingPackageError(
            f"the package {package.name} is installed but cannot be imported ({error}); {package.install}"
        ) from error


# What pip calls a package, where that is not the name of its module.
_PIP_NAMES = {"huggingface_hub": "huggingface-hub", "yaml": "pyyaml"}


@contextlib.contextmanager
def explained_imports() -> Iterator[None]:
    """Say what is missing where bhk was installed without its dependencies, such as torch, which arrays do not need.

    Raises:
        MissingPackageError: an import in the block does not find a package other than bhk.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "bhk").partition(".")[0]
        if name == "bhk":
            raise
        raise MissingPackageError(
            f"this needs the package {name}, which is not installed; run: pip install {_PIP_NAMES.get(name, name)}"
        ) from error
