"""Products of quantised activations with a matrix of signed bytes, on a CPU.

oneDNN multiplies unsigned activations by signed weights. On a CPU without VNNI instructions (measured on Zen 3) it adds
neighbouring products in saturating 16-bit arithmetic: 255 * 64 * 2 and 127 * 128 * 2 fit, 255 * 128 * 2 does not. On such a
machine activations are quantised to 7 bits when the weight uses more than 7 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiplies integers, uint8 (rows, k), minus their zero point, by a weight: float32 (rows, out).
Product = Callable[[Tensor], Tensor]


def quantise_(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Round each row of float32 `x` (rows, k) to -levels ... levels steps of its own size, halves up. Overwrites `x`.

    Returns:
        the integers plus the zero point levels + 1, uint8 (rows, k), and the step sizes, float32 (rows, 1).
    """
    # aminmax along rows takes ten times as long as amax and amin together.
    step = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_()).div_(levels)
    step.clamp_(min=torch.finfo(torch.float32).tiny)
    return x.mul_(step.reciprocal()).add_(levels + 1.5).to(torch.uint8), step


def make_product(weight: Tensor) -> tuple[Product, int]:
    """Return a function that multiplies by int8 `weight` (out, k), and the levels to quantise its activations to."""
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
    """Return whether oneDNN's product works, by trying it: torch has it on x86 only, and does not promise to keep it."""
    weight = torch.arange(-64, 64, dtype=torch.int8).view(4, 32)
    integers = torch.arange(0, 256, 2, dtype=torch.uint8).view(4, 32)
    try:
        found = _onednn_product(weight, 128)(integers)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, ((integers.int() - 128) @ weight.int().t()).float())


@cache
def _saturates() -> bool:
    """Return whether adding two products of 255 * 127 saturates on this machine, by trying it."""
    y = _onednn_product(torch.full((64, 64), 127, dtype=torch.int8), 0)(torch.full((64, 64), 255, dtype=torch.uint8))
    return bool((y != 255 * 127 * 64).any())
