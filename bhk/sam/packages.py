"""The packages that models of the family come from, and how to get them. Needs neither torch nor any of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from bhk.errors import BhkError


class MissingPackageError(BhkError):
    """The package that a model comes from is not installed, or fails when it is imported."""


@dataclass(frozen=True)
class Package:
    """A package that builds models of the family.

    Attributes:
        name: of the module to import.
        install: what to do to have it, as the end of a sentence.
    """

    name: str
    install: str


SEGMENT_ANYTHING = Package("segment_anything", "run: pip install segment-anything torchvision")
SEGMENT_ANYTHING_HQ = Package("segment_anything_hq", "run: pip install segment-anything-hq timm torchvision")
SAM2 = Package("sam2", "run: pip install sam2")
TRANSFORMERS = Package("transformers", 'run: pip install "transformers>=5.1"')
MOBILE_SAM = Package("mobile_sam", "run: pip install timm git+https://github.com/ChaoningZhang/MobileSAM.git")
MOBILE_SAM_V2 = Package(
    "mobilesamv2", "clone https://github.com/ChaoningZhang/MobileSAM and add its folder MobileSAMv2 to PYTHONPATH"
)
EDGE_SAM = Package("edge_sam", "clone https://github.com/chongzhou96/EdgeSAM and install it by its README")
EFFICIENT_SAM = Package("efficient_sam", "run: pip install git+https://github.com/yformer/EfficientSAM.git")
TINY_SAM = Package("tinysam", "clone https://github.com/xinghaochen/TinySAM and add its folder to PYTHONPATH")


def is_installed(package: Package) -> bool:
    """Tell whether a package can be found, without importing it. A folder of its name, such as a clone, is none."""
    spec = importlib.util.find_spec(package.name)
    return spec is not None and spec.origin is not None


def import_package(choices: Sequence[Package]) -> ModuleType:
    """Import the first of `choices` that is installed.

    Raises:
        MissingPackageError: none is, or it does not import; the message says how to get it.
    """
    package = next(filter(is_installed, choices), None)
    if package is None:
        first, *others = choices
        alternatives = "".join(f"; or for {other.name} {other.install}" for other in others)
        raise MissingPackageError(
            f"this model needs the package {first.name}, which is not installed; {first.install}{alternatives}"
        )
    try:
        return importlib.import_module(package.name)
    except ImportError as error:
        raise MissingPackageError(
            f"the package {package.name} is installed but cannot be imported ({error}); {package.install}"
        ) from error
