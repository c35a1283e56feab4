"""What the kernels for lattice weights share: the constants of the identity, and the correction for outliers."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK_OUTLIERS = 32


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
    total, x, codes, outliers, first, last, features, samples, rows, in_features, pairs, step, even, odd, per_winding,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to `total` (tile of outputs, tile of samples) what the integers leave of outliers first ... last - 1."""
    for start in range(first, last, BLOCK):
        places = start + tl.arange(0, BLOCK)
        inside = places < last
        entry = outliers + places.to(tl.int64) * 3
        index = tl.load(entry, mask=inside, other=0)
        row, column = index // pairs, index % pairs
        at = codes + row.to(tl.int64) * (2 * pairs) + column
        q = tl.load(at, mask=inside, other=0).to(tl.float32)
        r = tl.load(at + pairs, mask=inside, other=0).to(tl.float32)
        more_even = tl.load(entry + 1, mask=inside, other=0).to(tl.float32, bitcast=True)
        more_odd = tl.load(entry + 2, mask=inside, other=0).to(tl.float32, bitcast=True)
        more_even -= step * (q + r * per_winding) + even
        more_odd -= step * r + odd
        at_x = x + samples[None, :].to(tl.int64) * in_features + 2 * column[:, None]
        known = inside[:, None] & (samples[None, :] < rows)
        x_even = tl.load(at_x, mask=known, other=0.0)
        x_odd = tl.load(at_x + 1, mask=known & (2 * column[:, None] + 1 < in_features), other=0.0)
        chosen = (features[:, None] == row[None, :]) & inside[None, :]
        spread_even = tl.where(chosen, more_even[None, :], 0.0).to(x_even.dtype)
        spread_odd = tl.where(chosen, more_odd[None, :], 0.0).to(x_even.dtype)
        total = tl.dot(spread_even, x_even, total, input_precision=PRECISION)
        total = tl.dot(spread_odd, x_odd, total, input_precision=PRECISION)
    return total
