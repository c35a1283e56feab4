"""Weights that a checkpoint does not hold, because torch computes them from other tensors: pruned and normalised layers."""

from __future__ import annotations

import re
from collections.abc import Collection

# How a layer stores such a weight itself, and the ends of the names of the tensors from which it is computed.
_PRUNED = "torch.nn.utils.prune.remove(layer, {!r})"
_CALLS = (
    (_PRUNED, ("_orig", "_mask")),
    ("torch.nn.utils.remove_spectral_norm(layer, {!r})", ("_orig", "_u")),
    ("torch.nn.utils.remove_weight_norm(layer, {!r})", ("_g", "_v")),
)
_PARAMETRIZED_CALL = "torch.nn.utils.parametrize.remove_parametrizations(layer, {!r})"
_PARAMETRIZED = re.compile(r"((?:.+\.)?)parametrizations\.(\w+)\.original\d*")


def computed_weights(names: Collection[str]) -> dict[str, str]:
    """Return the weights that are computed from tensors of these names, each with the call that stores it instead."""
    found = {}
    for name in names:
        if match := _PARAMETRIZED.fullmatch(name):
            found[match[1] + match[2]] = _PARAMETRIZED_CALL.format(match[2])
        for call, (end, other) in _CALLS:
            weight = name.removesuffix(end)
            if weight != name and weight + other in names:
                found.setdefault(weight, call.format(weight.rpartition(".")[2]))
    return {weight: call for weight, call in found.items() if weight not in names}


def pruned_weights(names: Collection[str]) -> dict[str, str]:
    """Return the weights that torch's pruning computes, each with the call that stores it instead."""
    start = _PRUNED.partition("(")[0]
    return {weight: call for weight, call in computed_weights(names).items() if call.startswith(start)}
