"""Compress checkpoints into small, checked .bhk files with the Birkhoff method, and load and run them.

>>> file = bhk.convert("demo_sam.safetensors", "sam.bhk").path
>>> model = bhk.load(file)
>>> bhk.segment(model, "photo.jpg", boxes=[(0, 95, 266, 257)]).masks.shape
(1, 384, 384)
"""

from __future__ import annotations

# __init__.pyi lists the public names and the modules they come from.
from bhk.base.lazy import LazyNames
from bhk.version import __version__ as __version__

__getattr__ = LazyNames("bhk", "__init__.pyi")
__all__ = ["__version__", *__getattr__.names]


def __dir__() -> list[str]:
    return sorted(__all__)
