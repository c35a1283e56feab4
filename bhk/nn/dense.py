"""From layers that hold codes back to those of torch: `bhk.nn.to_dense`."""

from __future__ import annotations

from torch import nn

from bhk.nn.attention import HyperMultiheadAttention
from bhk.nn.coded import CodedWeight


def to_dense(model: nn.Module) -> int:
    """Decode all weights of a model that are held as codes: each layer becomes torch's layer of the same kind, in place.

    Programs that train weights, export them or code them anew need this. It takes the memory of the dense weights.

    >>> model = bhk.load("demo_sam.bhk", mode="hyper")
    >>> bhk.nn.to_dense(model)
    70

    Returns:
        how many weights were decoded.
    """
    modules = list(model.modules())
    coded = [module for module in modules if isinstance(module, CodedWeight)]
    for layer in coded:
        layer.hold_dense(nn.Parameter(layer.dense_weight(layer.dtype)))
    for module in modules:
        if isinstance(module, HyperMultiheadAttention):
            module.join()
    return len(coded)
