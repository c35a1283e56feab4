"""The true names and shapes of the published checkpoints."""

from __future__ import annotations

import torch
from torch import nn

from tools.state_dicts import NAMES, shapes_of

__all__ = ["NAMES", "module_of", "shapes_of"]


def module_of(name: str) -> nn.Module:
    """Return a module that has the tensors of a published checkpoint, zeros, and nothing else."""
    top = nn.Module()
    for key, shape in shapes_of(name).items():
        *parts, last = key.split(".")
        node = top
        for part in parts:
            if part not in dict(node.named_children()):
                node.add_module(part, nn.Module())
            node = node.get_submodule(part)
        node.register_buffer(last, torch.zeros(shape))
    return top
