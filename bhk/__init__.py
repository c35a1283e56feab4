"""bhk: compress checkpoints into small, checked .bhk files with the Birkhoff method."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bhk.codec.tensor import EncodedTensor as EncodedTensor
    from bhk.codec.tensor import encode as encode
    from bhk.errors import BhkError as BhkError

__version__ = "0.1.0"

# Where each public name lives. Nothing is imported before it is used: `import bhk` needs neither torch nor numpy.
_HOME = {
    "BhkError": "bhk.errors",
    "EncodedTensor": "bhk.codec.tensor",
    "encode": "bhk.codec.tensor",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bhk' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
