"""The role of a tensor, guessed from its name and shape, because a checkpoint does not record it."""

from __future__ import annotations

import re

from torch import Tensor

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked", "positional_encoding_gaussian_matrix"})
# The last part of a module path that is not a number tells the kind of module.
_TABLE = re.compile(r"embed(ding)?s?$|embed_positions$|tokens?$|_points$|^w[tp]e$|relative_attention_bias$")
_POSITION = re.compile(r"(^|_)(pos|rel_pos|position)|embed|token")


def role_of(name: str, tensor: Tensor) -> str:
    """Return the role of tensor `name`: linear, conv, embedding, norm, bias, buffer or other.

    Source: the naming conventions of torch.nn modules, checked against the state dicts of the SAM family.
    """
    *modules, leaf = name.split(".")
    module = next((part for part in reversed(modules) if not part.isdigit()), "")
    if leaf in _BUFFERS or not (tensor.is_floating_point() or tensor.is_complex()):
        return "buffer"
    # transformers gives SAM's Gaussian matrix (2, features) this name, which belongs to parameters elsewhere.
    if leaf == "positional_embedding" and tensor.ndim == 2 and tensor.shape[0] == 2:
        return "buffer"
    if tensor.ndim <= 1:
        return "bias" if leaf.endswith(("bias", "beta")) else "norm" if leaf in ("weight", "gamma") else "other"
    if tensor.ndim == 2 and leaf.endswith("weight"):
        return "embedding" if _TABLE.search(module) else "linear"
    if _POSITION.search(leaf):
        return "embedding"
    return "conv" if leaf == "weight" and 3 <= tensor.ndim <= 5 else "other"


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts block 2 before block 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)
