"""Compress checkpoints into small, checked .bhk files with the Birkhoff method, and load and run them.

The public names and the modules they come from are listed in __init__.pyi.
"""

from __future__ import annotations

from bhk.base.lazy import LazyNames
from bhk.version import __version__ as __version__

__getattr__ = LazyNames("bhk", "__init__.pyi")
__all__ = ["__version__", *__getattr__.names]


def __dir__() -> list[str]:
    return sorted(__all__)
