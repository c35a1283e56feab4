"""The Segment Anything family: its variants, recognising checkpoints, building and loading models, predicting masks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bhk.sam.registry import build_sam2 as build_sam2
    from bhk.sam.registry import build_sam2_video_predictor as build_sam2_video_predictor
    from bhk.sam.registry import sam_hq_model_registry as sam_hq_model_registry
    from bhk.sam.registry import sam_model_registry as sam_model_registry

# Imported on first use, because the table of variants needs no torch.
__all__ = ["build_sam2", "build_sam2_video_predictor", "sam_hq_model_registry", "sam_model_registry"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bhk.sam' has no attribute {name!r}")
    return getattr(importlib.import_module("bhk.sam.registry"), name)
