"""The operators `torch.ops.bhk.decode` and `torch.ops.bhk.hyper_linear`.

    decode(codes, codebook, outliers, in_features, dtype) -> weight (out, in)
    hyper_linear(x, codes, codebook, outliers, tiles, far, bias, compute) -> x @ weight.T + bias

`resident.Resident` describes the operands. Every device runs `reference.py`; CUDA runs Triton where it is installed. Gradients
reach x and bias.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .card import Card, card_of, float32_precision
from .resident import MAX_FAR, MAX_INTEGER_WIDTH

if TYPE_CHECKING:
    from .tuning import Tile

# Up to this many rows the fused product is likelier than decoding and cuBLAS to be the faster, where nobody has measured it.
FEW_ROWS = 48
# Up to this share of pairs the fused product's correction for outliers stays small beside it.
FEW_OUTLIERS = 1 / 100

_library = torch.library.Library("bhk", "DEF")
_library.define("decode(Tensor codes, Tensor codebook, Tensor outliers, int in_features, ScalarType dtype) -> Tensor")
_library.define(
    "hyper_linear(Tensor x, Tensor codes, Tensor codebook, Tensor outliers, Tensor tiles, Tensor far, Tensor? bias, "
    "str compute) -> Tensor"
)
_library.impl("decode", reference.decode, "CompositeExplicitAutograd")


@torch.library.impl(_library, "hyper_linear", "CompositeExplicitAutograd")
def _hyper_linear(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
    far: Tensor,
    bias: Tensor | None,
    compute: str,
) -> Tensor:
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = reference.hyper_linear(rows, codes, codebook, outliers, far, bias, compute)
    return y.view(*x.shape[:-1], len(codes))


def decode_on_card(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """`decode` by a Triton kernel."""
    from .dense import decode

    with torch.cuda.device_of(codes):  # Triton launches on the current device
        return decode(codes, codebook, outliers, in_features, dtype)


def hyper_linear_on_card(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
    far: Tensor,
    bias: Tensor | None,
    compute: str,
) -> Tensor:
    """`hyper_linear` by the Triton kernel that suits the number of rows and the class of the weight."""
    from . import few_rows

    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).contiguous()
    codes, outliers, bias = codes.contiguous(), outliers.contiguous(), None if bias is None else bias.contiguous()
    card, precision = card_of(x.device), float32_precision() if x.dtype == torch.float32 else "ieee"
    is_empty = not rows.numel() or not codes.numel()
    has_kernel = codes.dtype == torch.int8 and x.dtype != torch.float64 and not is_empty and card.has_products
    with torch.cuda.device_of(x):  # Triton launches on the current device
        if has_kernel and rows.shape[0] <= few_rows.MAX_ROWS and outliers.shape[0] <= FEW_OUTLIERS * codes.numel() / 2:
            y = _few_rows(rows, codes, codebook, outliers, tiles, bias, card, precision)
        elif has_kernel and compute == "int8" and far.shape[0] <= MAX_FAR and codes.shape[1] <= MAX_INTEGER_WIDTH:
            y = _integer(rows, codes, codebook, outliers, far, bias, card, precision)
        else:
            y = _decoded(rows, codes, codebook, outliers, bias)
    return y.view(*x.shape[:-1], codes.shape[0])


def _decoded(x: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, decode_on_card(codes, codebook, outliers, x.shape[1], x.dtype), bias)


def _few_rows(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
    bias: Tensor | None,
    card: Card,
    precision: str,
) -> Tensor:
    """Multiply without decoding, unless decoding is faster on this card."""
    from . import few_rows, tuning

    def launch(tile: Tile | None) -> Tensor:
        if tile is None:
            return _decoded(x, codes, codebook, outliers, bias)
        return few_rows.few_rows(x, codes, codebook, outliers, tiles, bias, tile=tile, precision=precision)

    def offer() -> list[Tile | None]:
        fused = few_rows.tiles_for(x.shape[0], codes.shape[0], codes.shape[1] // 2, x.element_size(), card)
        return [*fused, None] if x.shape[0] <= FEW_ROWS else [None, *fused]

    return launch(tuning.choose(card, "few_rows", x, codes.shape[0], offer, launch))


def _integer(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    far: Tensor,
    bias: Tensor | None,
    card: Card,
    precision: str,
) -> Tensor:
    from . import integer, tuning

    has_correction = x.dtype == torch.float32 and far.shape[0] > 0

    def launch(tile: Tile | None) -> Tensor:
        assert tile is not None
        return integer.integer_product(x, codes, codebook, outliers, far, bias, tile=tile, precision=precision)

    def offer() -> list[Tile]:
        return integer.tiles_for(x.shape[0], codes.shape[0], card, has_correction=has_correction)

    kernel = "integer, corrected" if has_correction else "integer"
    return launch(tuning.choose(card, kernel, x, codes.shape[0], offer, launch))


if find_spec("triton") is not None:
    _library.impl("decode", decode_on_card, "CUDA")
    _library.impl("hyper_linear", hyper_linear_on_card, "CUDA")


@torch.library.register_fake("bhk::decode", lib=_library)
def _decode_fake(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    return codes.new_empty(codes.shape[0], in_features, dtype=dtype)


@torch.library.register_fake("bhk::hyper_linear", lib=_library)
def _hyper_linear_fake(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
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
