"""The Segment Anything family: its variants, recognising checkpoints, building and loading models, predicting masks."""

from __future__ import annotations

# __init__.pyi lists the public names. They are imported on first use, because the table of variants needs no torch.
from bhk.base.lazy import LazyNames

__getattr__ = LazyNames("bhk.sam", "sam/__init__.pyi")
__all__ = __getattr__.names
