"""Products of quantised activations with a matrix of signed bytes, on a CPU.

oneDNN multiplies unsigned activations by signed weights. Without VNNI instructions (measured on Zen 3) it adds neighbouring
products in saturating 16 bits: 255 * 64 * 2 and 127 * 128 * 2 fit, 255 * 128 * 2 does not. So where the machine saturates and
the weight uses more than 7 bits, activations are quantised to 7 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiplies integers, uint8 (rows, k), less `zero`, by a weight: float32 (rows, out).
Product = Callable[[Tensor], Tensor]


def quantise_(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Round each row of float32 `x` (rows, k) to -levels ... levels steps of its own, halves up. Uses up `x`.

    Returns:
        the integers plus levels + 1, uint8 (rows, k), and the steps, float32 (rows, 1).
    """
    # Not aminmax: along rows it takes ten times as long as both of these.
    step = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_()).div_(levels)
    step.clamp_(min=torch.finfo(torch.float32).tiny)
    return x.mul_(step.reciprocal()).add_(levels + 1.5).to(torch.uint8), step


def make_product(weight: Tensor) -> tuple[Product, int]:
    """Return the product with int8 `weight` (out, k), and the levels to which its activations are to be quantised."""
    if not _has_onednn() or weight.device.type != "cpu":
        plain = weight.float()
        return lambda integers: F.linear(integers.float().sub_(128), plain), 127
    low, high = weight.aminmax()
    narrow = _saturates() and max(-int(low), int(high)) > 64
    levels = 63 if narrow else 127
    return _onednn_product(weight, levels + 1), levels


def _onednn_product(weight: Tensor, zero: int) -> Product:
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    one, nothing = torch.ones(len(weight), dtype=torch.float32), torch.zeros(len(weight), dtype=torch.int32)

    def multiply(integers: Tensor) -> Tensor:
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            integers, 1.0, zero, packed, one, nothing, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y

    return multiply


@cache
def _has_onednn() -> bool:
    """Ask torch for the product by using it: its operator is there on x86 only, and not promised to stay."""
    weight = torch.arange(-64, 64, dtype=torch.int8).view(4, 32)
    integers = torch.arange(0, 256, 2, dtype=torch.uint8).view(4, 32)
    try:
        found = _onednn_product(weight, 128)(integers)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, ((integers.int() - 128) @ weight.int().t()).float())


@cache
def _saturates() -> bool:
    """Ask the machine whether two products of 255 * 127 overflow."""
    y = _onednn_product(torch.full((64, 64), 127, dtype=torch.int8), 0)(torch.full((64, 64), 255, dtype=torch.uint8))
    return bool((y != 255 * 127 * 64).any())
