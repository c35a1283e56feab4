"""Compressed weights in PyTorch models: the layer `HyperLinear`, and loading a .bhk file into any `nn.Module`."""

from __future__ import annotations

from bhk.nn.attention import HyperMultiheadAttention
from bhk.nn.coded import CodedWeight
from bhk.nn.dense import to_dense
from bhk.nn.embedding import HyperEmbedding
from bhk.nn.errors import HyperLinearError
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.loading import LoadReport, load_into
from bhk.nn.meta import weights_on_meta

__all__ = [
    "CodedWeight",
    "HyperEmbedding",
    "HyperLinear",
    "HyperLinearError",
    "HyperMultiheadAttention",
    "LoadReport",
    "load_into",
    "to_dense",
    "weights_on_meta",
]
