"""Compress checkpoints into small, checked .bhk files with the Birkhoff method, and load and run them.

>>> file = bhk.convert("demo_sam.safetensors", "sam.bhk").path
>>> model = bhk.load(file)
>>> bhk.segment(model, "photo.jpg", boxes=[(0, 95, 266, 257)]).masks.shape
(1, 384, 384)
"""

from __future__ import annotations

import os
import sys

# `python -m bhk` looks for modules in the current folder first, where a stranger's json.py may lie. Only a clone needs that.
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)] in ("bhk", "-mbhk")
    and sys.path[0] not in ("", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    and os.path.isdir(sys.path[0])
    and os.path.samefile(sys.path[0], ".")
):
    del sys.path[0]

# __init__.pyi lists the public names and the modules they come from.
from bhk.base.lazy import LazyNames
from bhk.version import __version__ as __version__

__getattr__ = LazyNames("bhk", "__init__.pyi")
__all__ = ["__version__", *__getattr__.names]


def __dir__() -> list[str]:
    return sorted(__all__)
