"""The operators `torch.ops.bhk.decode`, `torch.ops.bhk.look_up` and `torch.ops.bhk.hyper_linear`.

    decode(codes, codebook, outliers, in_features, dtype) -> weight (out, in)
    look_up(rows, codes, codebook, outliers, in_features, dtype) -> weight[rows], for integer `rows` of any shape
    hyper_linear(x, codes, codebook, outliers, outlier_starts, far, bias, compute) -> x @ weight.T + bias

`resident.Resident` describes the operands. Every device can run `reference.py`; CUDA runs `dispatch.py` if Triton is
installed. Gradients reach x and bias.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from . import reference

_library = torch.library.Library("bhk", "DEF")
_library.define("decode(Tensor codes, Tensor codebook, Tensor outliers, int in_features, ScalarType dtype) -> Tensor")
_library.define(
    "look_up(Tensor rows, Tensor codes, Tensor codebook, Tensor outliers, int in_features, ScalarType dtype) -> Tensor"
)
_library.define(
    "hyper_linear(Tensor x, Tensor codes, Tensor codebook, Tensor outliers, Tensor outlier_starts, Tensor far, Tensor? bias, "
    "str compute) -> Tensor"
)
_library.impl("decode", reference.decode, "CompositeExplicitAutograd")


@torch.library.impl(_library, "look_up", "CompositeExplicitAutograd")
def _look_up(
    rows: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype
) -> Tensor:
    chosen, theirs = reference.chosen_rows(rows.reshape(-1), codes, outliers, (in_features + 1) // 2)
    weight: Tensor = torch.ops.bhk.decode(chosen, codebook, theirs, in_features, dtype)
    return weight.view(*rows.shape, in_features)


@torch.library.impl(_library, "hyper_linear", "CompositeExplicitAutograd")
def _hyper_linear(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    outlier_starts: Tensor,
    far: Tensor,
    bias: Tensor | None,
    compute: str,
) -> Tensor:
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    with torch.autocast(x.device.type, enabled=False):  # it would round what an operator computes inside
        y = reference.hyper_linear(rows, codes, codebook, outliers, far, bias, compute)
    return y.view(*x.shape[:-1], len(codes))


@cache
def _triton() -> Any:
    """Return `dispatch`, which imports Triton, on the first use of a GPU."""
    from . import dispatch

    return dispatch


if find_spec("triton") is not None:
    _library.impl("decode", lambda *operands: _triton().decode(*operands), "CUDA")
    _library.impl("hyper_linear", lambda *operands: _triton().hyper_linear(*operands), "CUDA")


@torch.library.register_fake("bhk::decode", lib=_library)
def _decode_fake(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    return codes.new_empty(codes.shape[0], in_features, dtype=dtype)


@torch.library.register_fake("bhk::look_up", lib=_library)
def _look_up_fake(
    rows: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype
) -> Tensor:
    return codes.new_empty(*rows.shape, in_features, dtype=dtype)


@torch.library.register_fake("bhk::hyper_linear", lib=_library)
def _hyper_linear_fake(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    outlier_starts: Tensor,
    far: Tensor,
    bias: Tensor | None,
    compute: str,
) -> Tensor:
    return x.new_empty(*x.shape[:-1], codes.shape[0])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, codebook, outliers, _, _, _, _ = inputs
    ctx.save_for_backward(codes, codebook, outliers)
    ctx.in_features = x.shape[-1]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    codes, codebook, outliers = ctx.saved_tensors
    grad_x = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_x = grad @ torch.ops.bhk.decode(codes, codebook, outliers, ctx.in_features, grad.dtype)
    if ctx.needs_input_grad[6]:
        grad_bias = grad.reshape(-1, grad.shape[-1]).sum(0)
    return grad_x, None, None, None, None, None, grad_bias, None


torch.library.register_autograd("bhk::hyper_linear", _backward, setup_context=_save, lib=_library)
