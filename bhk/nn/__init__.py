"""Compressed weights in PyTorch models: the layer `HyperLinear`, and loading a .bhk file into any `nn.Module`."""

from __future__ import annotations

from bhk.nn.hyperlinear import HyperLinear, HyperLinearError
from bhk.nn.loading import LoadReport, load_into
from bhk.nn.meta import weights_on_meta

__all__ = ["HyperLinear", "HyperLinearError", "LoadReport", "load_into", "weights_on_meta"]
