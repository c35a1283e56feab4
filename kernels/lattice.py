"""What the kernels for lattice weights share: activations in pairs, step and offsets of a codebook, and outliers.

Source of the formulas: the identity in `resident`. Throughout, u = x_even and v = x_odd + x_even / n.
"""

from __future__ import annotations

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

BLOCK_OUTLIERS = 32


def paired(x: Tensor) -> Tensor:
    """Return activations (rows, in) as the kernels read them: (rows, 2*h), each (even, odd) pair aligned to its own size.

    `x` must be contiguous. An odd number of features gets one more, zero.
    """
    if x.shape[1] % 2:
        return F.pad(x, (0, 1))
    return x if x.data_ptr() % (2 * x.element_size()) == 0 else x.clone()


@triton.jit
def pair_pointer(x):
    """Return a pointer to activations (rows, 2*h) as one to pairs (rows, h): words of twice the size, which load as vectors."""
    word: tl.constexpr = tl.int32 if x.dtype.element_ty.primitive_bitwidth == 16 else tl.int64
    return x.to(tl.pointer_type(word), bitcast=True)


@triton.jit
def split_pair(word, dtype: tl.constexpr):
    """Return the even and the odd activation of each word, in `dtype` and the shape of `word`. The even one is lower."""
    if dtype.primitive_bitwidth == 16:
        even, odd = word.to(tl.int16), (word >> 16).to(tl.int16)
    else:
        even, odd = word.to(tl.int32), (word >> 32).to(tl.int32)
    return even.to(dtype, bitcast=True), odd.to(dtype, bitcast=True)


@triton.jit
def step_and_offsets(book):
    """Return step, offset_even, offset_odd and 1/n of a codebook that is centred or a grid, four float32 scalars.

        step        = side / n
        offset_even = (half * (n + 1) - (n * n - 1) / 2) * side / (n * n) + centre_even      half = n // 2
        offset_odd  = (half - (n - 1) / 2) * step + centre_odd

    They are the constants of the identity in `resident`. On a grid, the offsets are the centre, and 0 replaces 1/n.

    Args:
        book: pointer to the seven float32 fields of the codebook, in the order of `resident.FIELDS`.
    """
    side, windings = tl.load(book + 2), tl.load(book + 3)
    half = (windings.to(tl.int32) // 2).to(tl.float32)
    step = tl.div_rn(side, windings)
    even = (half * (windings + 1.0) - (windings * windings - 1.0) * 0.5) * tl.div_rn(side, windings * windings)
    odd = (half - (windings - 1.0) * 0.5) * step
    leans = tl.where(tl.load(book + 6) > 1.0, 0.0, 1.0)
    per_winding = tl.div_rn(windings, windings * windings) * leans
    return step, even * leans + tl.load(book), odd * leans + tl.load(book + 1), per_winding


@triton.jit
def add_outliers(
    total, x, codes, outliers, chosen, first, last, features, samples, rows, pairs, step, even, odd, per_winding,
    CHOOSE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Correct a tile of the product for outliers, whose bytes Q and R are only the nearest that fit.

    For each outlier (i, j) with float32 weights (w_even, w_odd), and each row of activations b,

        total[i, b] += (w_even - step * (Q + R/n) - offset_even) * x_even[j, b] + (w_odd - step * R - offset_odd) * x_odd[j, b]

    The corrections are spread over the rows of the tile and multiplied on the tensor cores, BLOCK outliers at a time.

    Args:
        total: float32 (outputs, samples), the tile; returned with the corrections.
        x: activations (rows, 2*h), as `paired` returns them.
        codes: int8 (out, 2*h), Q and R of each row side by side.
        outliers: int32 (E, 3), rows of (i * h + j, bits of w_even, bits of w_odd).
        first, last: with CHOOSE, the outliers chosen[first ... last - 1], int32; else outliers first ... last - 1.
        features, samples: int32, the rows of W and of x in this tile.
        pairs: h.
        step, even, odd, per_winding: as `step_and_offsets` returns them.
        PRECISION: of products of float32, "ieee" or "tf32".
    """
    lowest, highest = tl.min(features, axis=0), tl.max(features, axis=0)
    for start in range(first, last, BLOCK):
        places = start + tl.arange(0, BLOCK)  # (outliers,)
        inside = places < last
        if CHOOSE:
            places = tl.load(chosen + places, mask=inside, other=0)
        entry = outliers + places.to(tl.int64) * 3
        index = tl.load(entry, mask=inside, other=0)
        row, column = index // pairs, index % pairs  # (outliers,)
        inside &= (row >= lowest) & (row <= highest)
        if tl.max(inside.to(tl.int32), axis=0) > 0:  # activations are not even read for blocks beside the tile
            at = codes + row.to(tl.int64) * (2 * pairs) + column
            q = tl.load(at, mask=inside, other=0).to(tl.float32)  # (outliers,)
            r = tl.load(at + pairs, mask=inside, other=0).to(tl.float32)
            more_even = tl.load(entry + 1, mask=inside, other=0).to(tl.float32, bitcast=True)
            more_odd = tl.load(entry + 2, mask=inside, other=0).to(tl.float32, bitcast=True)
            more_even -= step * (q + r * per_winding) + even
            more_odd -= step * r + odd
            at_x = pair_pointer(x) + samples[None, :].to(tl.int64) * pairs + column[:, None]
            word = tl.load(at_x, mask=inside[:, None] & (samples[None, :] < rows), other=0)  # (outliers, samples)
            x_even, x_odd = split_pair(word, x.dtype.element_ty)
            meets = (features[:, None] == row[None, :]) & inside[None, :]  # (outputs, outliers)
            spread_even = tl.where(meets, more_even[None, :], 0.0).to(x_even.dtype)
            spread_odd = tl.where(meets, more_odd[None, :], 0.0).to(x_even.dtype)
            total = tl.dot(spread_even, x_even, total, input_precision=PRECISION)  # (outputs, samples)
            total = tl.dot(spread_odd, x_odd, total, input_precision=PRECISION)
    return total
