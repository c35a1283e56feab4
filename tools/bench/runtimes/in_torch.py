"""SAMs that run in torch, from a folder of files: the package's own dense model, variants of it, and bhk's.

All take as many threads as torch has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import bhk.sam
from bhk.kernels import reference
from bhk.nn import HyperLinear
from bhk.nn.hyperlinear import Compute
from bhk.sam.build import build_model
from tools.bench.models.sam_parts import Parts
from tools.bench.models.synthetic import DEMO, make

DENSE, CODED = "model.pth", "model.bhk"


def write_files(variant: str, parent: Path) -> Path:
    """Write a .bhk file of synthetic weights, and a checkpoint of the same weights as the file decodes them.

    Returns:
        the new folder of both, named after the variant.
    """
    folder = parent / variant
    folder.mkdir()
    source = folder / f"{variant}.pt"  # the published name: the settings of SAM 2 are told by it
    make(variant, source)
    bhk.convert(source, folder / CODED)
    source.unlink()
    bhk.export(folder / CODED, folder / DENSE)
    return folder


def dense_model(folder: Path) -> nn.Module:
    """Load the checkpoint as the packages do: build an initialised model, read the file, copy the weights."""
    state: dict[str, Any] = torch.load(folder / DENSE, weights_only=True)
    state = state.get("model", state)  # as SAM 2 wraps it
    with bhk.open(folder / CODED) as file:
        entry = file.container.header.model
    assert entry is not None
    model = build_model(entry)
    model.load_state_dict(state)
    return model


def dense(folder: Path) -> Parts:
    """Load the dense model."""
    return Parts(dense_model(folder))


def compiled(folder: Path) -> Parts:
    """Load the dense model, and compile its image encoder."""
    parts = dense(folder)
    parts.encoder = torch.compile(parts.encoder)
    return parts


def in_bfloat16(folder: Path) -> Parts:
    """Load the dense model, and cast it."""
    return dense(folder).to(torch.bfloat16)


def with_fused_attention(folder: Path) -> Parts:
    """Load the dense model, and replace its attention by bhk's."""
    parts = dense(folder)
    bhk.sam.fuse_attention(parts)
    return parts


def torchao_int8(folder: Path) -> Parts:
    """Load the dense model, give its image encoder int8 weights and inputs, and compile it, as torchao's documentation says."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    parts = dense(folder)
    quantize_(parts.encoder, Int8DynamicActivationInt8WeightConfig())
    parts.encoder = torch.compile(parts.encoder)
    return parts


def coded_model(folder: Path, compute: Compute = "exact") -> nn.Module:
    """Load the .bhk file as users do.

    All layers of the demo SAM are so small that bhk would hold them dense. Here they keep their codes, and this process
    computes with them as with large ones.

    Raises:
        ValueError: int8 would be the same as exact.
    """
    is_demo = folder.name == DEMO
    if is_demo:
        reference.INTEGER_SIZE = 0
    model = bhk.load(folder / CODED, mode="hyper" if is_demo else "auto", compute=compute)
    if compute == "int8" and not any(isinstance(module, HyperLinear) for module in model.modules()):
        raise ValueError("all layers are so small that bhk holds them dense on a CPU; see bhk exact")
    return model


def coded(folder: Path, compute: Compute = "exact") -> Parts:
    """Load the .bhk file; see `coded_model`."""
    return Parts(coded_model(folder, compute))
