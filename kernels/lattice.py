"""What the kernels for lattice weights share: pairs of activations, the constants of the identity, and outliers."""

from __future__ import annotations

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK_OUTLIERS = 32


def paired(x: Tensor) -> Tensor:
    """Return `x` (rows, in), contiguous, as the kernels read it: in (even, odd) pairs, each on an address that it divides.

    A zero is put after an odd number of features.
    """
    if x.shape[1] % 2:
        return F.pad(x, (0, 1))
    return x if x.data_ptr() % (2 * x.element_size()) == 0 else x.clone()


@triton.jit
def pair_pointer(x):
    """Return a pointer to activations as one to their pairs: words of twice their size, which load as vectors."""
    word: tl.constexpr = tl.int32 if x.dtype.element_ty.primitive_bitwidth == 16 else tl.int64
    return x.to(tl.pointer_type(word), bitcast=True)


@triton.jit
def split_pair(word, dtype: tl.constexpr):
    """Return the even and the odd activation in each word."""
    if dtype.primitive_bitwidth == 16:
        even, odd = word.to(tl.int16), (word >> 16).to(tl.int16)
    else:
        even, odd = word.to(tl.int32), (word >> 32).to(tl.int32)
    return even.to(dtype, bitcast=True), odd.to(dtype, bitcast=True)


@triton.jit
def identity(book):
    """Return step, offset_even, offset_odd and 1/n of a centred codebook."""
    side, windings = tl.load(book + 2), tl.load(book + 3)
    half = (windings.to(tl.int32) // 2).to(tl.float32)
    step = tl.div_rn(side, windings)
    even = (half * (windings + 1.0) - (windings * windings - 1.0) * 0.5) * tl.div_rn(side, windings * windings)
    odd = (half - (windings - 1.0) * 0.5) * step
    return step, even + tl.load(book), odd + tl.load(book + 1), tl.div_rn(windings, windings * windings)


@triton.jit
def add_outliers(
    total, x, codes, outliers, chosen, first, last, features, samples, rows, pairs, step, even, odd, per_winding,
    CHOOSE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to `total` (tile of outputs, tile of samples) what the integers leave of outliers first ... last - 1.

    With CHOOSE, of those whose places are chosen[first ... last - 1].
    """
    lowest, highest = tl.min(features, axis=0), tl.max(features, axis=0)
    for start in range(first, last, BLOCK):
        places = start + tl.arange(0, BLOCK)
        inside = places < last
        if CHOOSE:
            places = tl.load(chosen + places, mask=inside, other=0)
        entry = outliers + places.to(tl.int64) * 3
        index = tl.load(entry, mask=inside, other=0)
        row, column = index // pairs, index % pairs
        inside &= (row >= lowest) & (row <= highest)
        if tl.max(inside.to(tl.int32), axis=0) > 0:  # else nothing of `total`: activations are not even read
            at = codes + row.to(tl.int64) * (2 * pairs) + column
            q = tl.load(at, mask=inside, other=0).to(tl.float32)
            r = tl.load(at + pairs, mask=inside, other=0).to(tl.float32)
            more_even = tl.load(entry + 1, mask=inside, other=0).to(tl.float32, bitcast=True)
            more_odd = tl.load(entry + 2, mask=inside, other=0).to(tl.float32, bitcast=True)
            more_even -= step * (q + r * per_winding) + even
            more_odd -= step * r + odd
            at_x = pair_pointer(x) + samples[None, :].to(tl.int64) * pairs + column[:, None]
            word = tl.load(at_x, mask=inside[:, None] & (samples[None, :] < rows), other=0)
            x_even, x_odd = split_pair(word, x.dtype.element_ty)
            meets = (features[:, None] == row[None, :]) & inside[None, :]
            spread_even = tl.where(meets, more_even[None, :], 0.0).to(x_even.dtype)
            spread_odd = tl.where(meets, more_odd[None, :], 0.0).to(x_even.dtype)
            total = tl.dot(spread_even, x_even, total, input_precision=PRECISION)
            total = tl.dot(spread_odd, x_odd, total, input_precision=PRECISION)
    return total
