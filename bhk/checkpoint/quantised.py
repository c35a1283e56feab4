"""Checkpoints whose weights another method has quantised: which tensors belong to that, and which method it was.

There a layer holds its weight as integers or 8-bit floats, and beside it, in floating point, what turns them into weights:
scales, zero points, maxima, codebooks. An error in one of these changes many weights, so all of them stay exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from bhk.base.texts import counted

MIN_NUMEL = 1024  # of a quantised weight; what is smaller is a counter, or an index
_FLAGS_AND_INDICES = (torch.bool, torch.int64)  # dtypes of integers that are no weights
# Names that only a quantised layer has. Some methods hold packed weights in a floating-point dtype, so that FSDP takes them.
_PACKED = frozenset({"W_q", "absmax", "quant_map", "qweight", "weight_packed"})
# Parts of names between a layer and what its quantised weight is made of.
_INNER = frozenset({"weight", "quant_state", "centroids", "res_centroids"})

# Methods by the names of tensors in a layer, the most special first.
_METHODS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("GPTQ", ("qweight", "qzeros", "scales", "g_idx")),
    ("AWQ or GPTQ", ("qweight", "qzeros", "scales")),
    ("HQQ", ("W_q",)),
    ("bitsandbytes", ("*absmax",)),
    ("bitsandbytes", ("SCB",)),
    ("AQLM", ("codes", "codebooks")),
    ("VPTQ", ("indices", "*centroids*")),
    ("NVFP4", ("*weight_scale", "*weight_scale_2")),
    ("NVFP4", ("weight_packed", "weight_global_scale")),
    ("compressed-tensors", ("weight_packed",)),
    ("MXFP4", ("*_blocks", "*_scales")),
    ("torchao", ("_*_qdata",)),
    ("quanto", ("*_data", "*_scale")),
    ("8-bit floats with scales", ("*weight", "*scale*")),
)
_UNKNOWN = "integers with scales"


@dataclass(frozen=True)
class Quantised:
    """What another method has quantised.

    Attributes:
        names: the tensors of quantised layers, all of which stay exact.
        layers: number of layers.
        methods: the methods, as far as names tell.
        share: how much of the checkpoint's bytes they take, 0 ... 1.
    """

    names: frozenset[str]
    layers: int
    methods: tuple[str, ...]
    share: float

    def lines(self) -> tuple[str, ...]:
        """Return a line that says so, or none."""
        if not self.names:
            return ()
        gain = "; little is left to gain, so convert the original weights instead" if self.share >= 0.5 else ""
        return (
            f"the weights of {counted(self.layers, 'layer')} are quantised already ({', '.join(self.methods)}); "
            f"they and their scales stay exact, {self.share:.0%} of the bytes{gain}",
        )


def find_quantised(tensors: Mapping[str, Tensor]) -> Quantised:
    """Find the layers in a checkpoint whose weights another method has quantised."""
    layers: defaultdict[str, list[str]] = defaultdict(list)
    for name in tensors:
        layers[_layer_of(name)].append(name)
    found = {layer: names for layer, names in layers.items() if _is_quantised(names, tensors)}
    names = frozenset(name for held in found.values() for name in held)
    total = sum(tensor.nbytes for tensor in tensors.values())
    share = sum(tensors[name].nbytes for name in names) / max(total, 1)
    methods = {_method(layer, held, tensors): None for layer, held in found.items()}
    return Quantised(names, len(found), tuple(methods), share)


def _layer_of(name: str) -> str:
    """Return the layer that a tensor belongs to: "0.attn.qkv" for "0.attn.qkv.weight._scale"."""
    parts = name.split(".")[:-1]
    while parts and (parts[-1] in _INNER or parts[-1].startswith("_")):
        parts.pop()
    return ".".join(parts)


def _is_quantised(names: list[str], tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a layer holds a quantised weight and what belongs to it, besides a bias."""
    own = [name for name in names if not name.endswith("bias")]
    is_packed = any(name.rpartition(".")[2] in _PACKED or _holds_codes(tensors[name]) for name in own)
    return is_packed and len(own) > 1


def _holds_codes(tensor: Tensor) -> bool:
    is_small = tensor.dtype.itemsize == 1 or not (tensor.is_floating_point() or tensor.is_complex())
    return is_small and tensor.dtype not in _FLAGS_AND_INDICES and tensor.numel() >= MIN_NUMEL


def _method(layer: str, names: list[str], tensors: Mapping[str, Tensor]) -> str:
    inner = [name[len(layer) :].lstrip(".") for name in names]
    for method, patterns in _METHODS:
        if all(any(fnmatchcase(name, pattern) for name in inner) for pattern in patterns):
            return method
    return _UNKNOWN
