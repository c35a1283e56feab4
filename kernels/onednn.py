"""Products that oneDNN computes on a CPU: of activations, rounded to bytes, with a matrix of signed bytes, and of float32.

oneDNN multiplies unsigned activations by signed weights. On a CPU without VNNI instructions (measured on Zen 3) it adds
neighbouring products in saturating 16-bit arithmetic: 255 * 64 * 2 and 127 * 128 * 2 fit, 255 * 128 * 2 does not. On such a
machine activations are rounded to 7 bits when the weight uses more than 7 bits.

One byte rounds an activation to 1/254 of its row's largest. Three bytes, the digits of an integer, hold it to 2.4e-7 of that:
half a step, and the rounding of the division.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Rounding(NamedTuple):
    """How activations become integers, each the sum of factor * (byte - zero) over its bytes.

    Attributes:
        largest: the largest integer.
        zeros, factors: of each byte, that with the factor 1 first.
    """

    largest: int
    zeros: tuple[int, ...]
    factors: tuple[int, ...]


ONE_BYTE, SEVEN_BITS = Rounding(127, (128,), (1,)), Rounding(63, (64,), (1,))
# With the zeros, an integer takes 23 bits: as many as float32 has behind its first. The sign is in the last byte.
THREE_BYTES = Rounding((1 << 22) - (1 << 16), (128, 128, 64), (1, 1 << 8, 1 << 16))
SMALLEST = 2.0**-100  # of steps; what is divided by it is still finite


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix of signed bytes (out, k), as oneDNN wants it, or in float32 where oneDNN is missing.

    Attributes:
        matrix: mkldnn (k, out), or float32 (out, k).
        rounding: of activations to one byte.
        version: of the tensor that it was made from.
        scales, zero_points: of the weight, one for each row, as oneDNN asks for them.
    """

    matrix: Tensor
    rounding: Rounding
    version: int
    scales: Tensor = field(init=False)
    zero_points: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", torch.ones(self.out, dtype=torch.float32, device="cpu"))
        object.__setattr__(self, "zero_points", torch.zeros(self.out, dtype=torch.int32, device="cpu"))

    @property
    def out(self) -> int:
        """Rows of the weight: outputs of the product."""
        return self.matrix.shape[self.matrix.is_mkldnn]

    @property
    def nbytes(self) -> int:
        """Bytes that a packed weight takes beside the tensor that it was made from."""
        return self.matrix.numel() + int(self.scales.nbytes + self.zero_points.nbytes)

    def add_product(self, integers: Tensor, y: Tensor, scale: float, zero: int) -> None:
        """Add to y, float32 (rows, out), `scale` times the product of `integers` - `zero`, for uint8 `integers` (rows, k)."""
        if not self.matrix.is_mkldnn:
            y.add_(F.linear(integers.float().sub_(zero), self.matrix), alpha=scale)
            return
        torch.ops.onednn.qlinear_pointwise.binary(
            *(integers, scale, zero, self.matrix, self.scales, self.zero_points),
            *(y, None, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], ""),
        )


_packed: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def packed(weight: Tensor) -> Weight:
    """Return int8 `weight` (out, k) ready for products.

    What oneDNN packs is kept until the tensor ends or changes. Changes behind torch's back, through `.data`, are not noticed;
    tensors made in inference mode do not tell of changes, so they are packed anew each time.
    """
    if weight.is_inference() or not weight.is_cpu or not has_onednn():
        return _pack(weight, 0)
    found: Weight | None = _packed.get(weight)  # type: ignore[no-untyped-call]
    if found is None or found.version != weight._version:
        found = _packed[weight] = _pack(weight, weight._version)
    return found


def packed_bytes(weight: Tensor) -> int:
    """Return the bytes that `packed` keeps for a tensor now."""
    found: Weight | None = _packed.get(weight)  # type: ignore[no-untyped-call]
    return found.nbytes if found else 0


def _pack(weight: Tensor, version: int) -> Weight:
    if not weight.is_cpu or not has_onednn():
        return Weight(weight.float(), ONE_BYTE, version)
    low, high = weight.aminmax()
    narrow = _saturates() and max(-int(low), int(high)) > 64
    return _onednn(weight, SEVEN_BITS if narrow else ONE_BYTE, version)


def _onednn(weight: Tensor, rounding: Rounding = ONE_BYTE, version: int = 0) -> Weight:
    return Weight(torch.ops.onednn.qlinear_prepack(weight, None), rounding, version)


def quantise_(x: Tensor, rounding: Rounding, integers: Tensor) -> Tensor:
    """Round each row of float32 `x` (rows, k) to integers, halves to even. Overwrites `x`.

    Args:
        integers: uint8 (bytes, rows, k), to be filled with the bytes of the integers.

    Returns:
        the sizes of a step, float32 (rows, 1).
    """
    # aminmax along rows takes ten times as long as amax and amin together, and a maximum norm twenty times.
    step = torch.maximum(x.amax(1, keepdim=True), x.amin(1, keepdim=True).neg_()).div_(rounding.largest)
    step.clamp_(min=SMALLEST)
    # Between 2^23 and 2^24 the steps of float32 are 1, so that its lowest bits are the integer, zeros and all.
    zero = (1 << 23) + sum(zero * factor for zero, factor in zip(rounding.zeros, rounding.factors, strict=True))
    torch.addcmul(x.new_full(x.shape[1:], zero), x, step.reciprocal(), out=x)
    bits = x.view(torch.int32)
    for number, piece in enumerate(integers):
        if number:
            bits.bitwise_right_shift_(8)
        piece.view(torch.int8).copy_(bits)  # to int8, because torch converts to uint8 one by one
    return step


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return F.linear(x, weight, bias) for float32 x (rows, k), by oneDNN, which packs the weight (out, k) first."""
    prepared = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    bias = None if bias is None else bias.contiguous()  # it is read without regard to strides
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, prepared, bias, "none", [], "")
    return y


@cache
def has_onednn_linear() -> bool:
    """Return whether `onednn_linear` works, by trying it: torch does not promise to keep what it calls."""
    # The dtype and device are written out here and below, because programs may set other defaults.
    x, weight, bias = torch.split(torch.arange(23, dtype=torch.float32, device="cpu"), [8, 12, 3])
    try:
        found, expected = (linear(x.view(2, 4), weight.view(3, 4), bias) for linear in (onednn_linear, F.linear))
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found, expected)


@cache
def has_onednn() -> bool:
    """Return whether oneDNN's product works, by trying it: torch has it on x86 only, and does not promise to keep it."""
    weight = torch.arange(-64, 64, dtype=torch.int8, device="cpu").view(4, 32)
    integers = torch.arange(0, 256, 2, dtype=torch.uint8, device="cpu").view(4, 32)
    y = torch.ones(4, 4, dtype=torch.float32, device="cpu")
    try:
        _onednn(weight).add_product(integers, y, 2.0, 128)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(y, 1 + 2 * ((integers.int() - 128) @ weight.int().t()).float())


def has_integer_unit() -> bool:
    """Return whether this machine multiplies bytes exactly in its own instructions."""
    return has_onednn() and not _saturates()


@cache
def _saturates() -> bool:
    """Return whether adding two products of 255 * 127 saturates on this machine, by trying it."""
    y = torch.zeros(64, 64, dtype=torch.float32, device="cpu")
    weight = torch.full((64, 64), 127, dtype=torch.int8, device="cpu")
    _onednn(weight).add_product(torch.full((64, 64), 255, dtype=torch.uint8, device="cpu"), y, 1.0, 0)
    return bool((y != 255 * 127 * 64).any())
