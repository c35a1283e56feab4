"""The role of a tensor, guessed from its name and shape, because a checkpoint does not record it."""

from __future__ import annotations

import re

import torch
from torch import Tensor

_BUFFERS = frozenset({"num_batches_tracked", "positional_encoding_gaussian_matrix"})
# Words in the own names of tables that are computed or counted, not learned: frequencies, coordinates, statistics, masks.
# A grid alone may be learned, as those of radiance fields.
_COMPUTED = re.compile(
    r"(^|_)(freqs?|cos|sin|cis|rope|rotary|sinusoid(al)?|anchors?|coords?|coordinates|strides?|priors?|slopes?|fbank|filterbank|mean|std|var|variance|cov|avg|cumprod)(_|$)"
    r"|^(betas|alphas|sigmas|pe|queue|center|cluster_size|fb|mel_(filters|basis)|window)$|(^|_)(mask|index|indices|ids)$|.(_grid)$"
)
_LEARNED = re.compile(r"(^|_)(embed(ding)?s?|tokens?|weight|bias|proj)(_|$)(?!avg$)")
# The last part of a module path that is not a number tells the kind of module.
_TABLE = re.compile(r"embed(ding)?s?$|embed_positions$|tokens?$|_points$|^w[tp]e$|relative_attention_bias$")
_POSITION = re.compile(r"(^|_)(pos|rel_pos|position)|embed|token")


def role_of(name: str, tensor: Tensor) -> str:
    """Return the role of tensor `name`: linear, conv, embedding, norm, bias, buffer or other.

    Source: the naming conventions of torch.nn modules, checked against the state dicts of the SAM family.
    """
    *modules, leaf = name.split(".")
    module = next((part for part in reversed(modules) if not part.isdigit()), "")
    if _is_computed(leaf) or not (tensor.is_floating_point() or tensor.is_complex()):
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


def _is_computed(leaf: str) -> bool:
    """Return whether a tensor's own name says that it is computed or counted: `inv_freq`, `attn_mask`, `pos_grid`, …"""
    return leaf in _BUFFERS or (bool(_COMPUTED.search(leaf)) and not _LEARNED.search(leaf))


def is_sinusoidal(tensor: Tensor) -> bool:
    """Return whether the rows of `tensor` are sines and cosines of the same angles, as in fixed tables of positions.

    Their squares add up to half the number of columns. Rows of zeros (padding) do not count.
    """
    width = tensor.shape[-1] if tensor.ndim >= 2 else 0
    if width < 8 or width % 2 or not tensor.is_floating_point():
        return False
    rows = tensor.detach().reshape(-1, width)
    rows = rows[:: max(1, len(rows) // 256)].double()
    sums = rows.square().sum(1)
    sums = sums[sums > 0]
    tolerance = 4 * max(torch.finfo(tensor.dtype).eps, torch.finfo(torch.float32).eps) * width
    return len(sums) >= 8 and bool(((sums - width / 2).abs() <= tolerance).all())


def is_mask(tensor: Tensor) -> bool:
    """Return whether `tensor` holds zeros and ones, and nothing else, as the masks of torch's pruning do."""
    values = tensor.detach().reshape(-1)
    are_flags = all(bool(((part == 0) | (part == 1)).all()) for part in (values[:4096], values))
    return are_flags and bool((values != values[:1]).any())


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that puts block 2 before block 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)
