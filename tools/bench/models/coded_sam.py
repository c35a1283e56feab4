"""A SAM with random weights whose linear layers are coded, and copies of it that hold equal values."""

from __future__ import annotations

import copy

import msgspec
import torch
from torch import nn

from bhk.base.parallel import ordered_map, worker_count
from bhk.container.header import ModelEntry
from bhk.conversion.selection import MIN_NUMEL
from bhk.nn import HyperLinear
from bhk.nn.model_tensors import model_tensors, replaceable_layers
from bhk.sam.build import build_model
from bhk.sam.variants import Variant
from tools.bench.models.sam_parts import Parts

SIDES = ("dense", "exact", "int8")
DEGREES, SCALE = 6.0, 0.03  # of the weights, which follow Student's t


@torch.no_grad()
def coded_parts(variant: Variant, device: str) -> Parts:
    """Build a model of the variant with random weights, its linear layers coded, in float32 on the device.

    The weights of linear layers follow Student's t. Tensors that the packages set to zero, such as position tables, become
    random, because zeros would hide errors. As in `bhk.convert`, small layers stay as they are.
    """
    torch.manual_seed(0)
    entry = ModelEntry(variant.family, variant.name, msgspec.to_builtins(variant.architecture))
    with torch.device(device):
        parts = Parts(build_model(entry)).to(device)
    student = torch.distributions.StudentT(torch.tensor(DEGREES, device=device))
    targets = model_tensors(parts)
    layers = ((found.place, found.layer) for found in replaceable_layers(parts, targets))
    places = [(place, layer) for place, layer in layers if isinstance(layer, nn.Linear)]
    for _, linear in places:
        linear.weight.copy_(student.sample(linear.weight.shape) * SCALE)
    for target in targets:
        if isinstance(target.tensor, nn.Parameter) and not target.tensor.any():
            target.tensor.normal_(std=0.02)
    large = [(place, linear) for place, linear in places if linear.weight.numel() >= MIN_NUMEL]
    coded = ordered_map(HyperLinear.from_linear, [linear for _, linear in large], worker_count(None))
    for (place, _), layer in zip(large, coded, strict=True):
        setattr(place.module, place.attribute, layer)
    return parts


@torch.no_grad()
def sides_of(coded: Parts, dtype: torch.dtype) -> dict[str, Parts]:
    """Return copies of the model in `dtype`, one for each of `SIDES`, with equal values."""
    exact = copy.deepcopy(coded).to(dtype)
    int8, dense = copy.deepcopy(exact), copy.deepcopy(exact)
    for module in int8.modules():
        if isinstance(module, HyperLinear):
            module.compute = "int8"
    for parent in list(dense.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, HyperLinear):
                setattr(parent, name, child.to_linear())
    return {"dense": dense, "exact": exact, "int8": int8}
