"""The integer product: activations (rows, in), quantised row by row, times a lattice weight (out, in).

    scale = max(|u|, |v|) / 127        A = round([u | v] / scale)        y = step * scale * (A @ [Q | R].T) + offset + bias
    u = x_even,  v = x_odd + x_even / n,  offset = offset_even * sum(x_even) + offset_odd * sum(x_odd)

One kernel shears, sums and quantises; one multiplies int8 by int8 in 32-bit integers and scales on the way out.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .card import Card
from .lattice import BLOCK_OUTLIERS, add_outliers, identity

BLOCK_PAIRS = 512
GROUP = 8  # tiles of rows that share the codes in the L2 cache


@triton.jit
def _quantise_kernel(x, book, integers, scales, offsets, in_features, pairs, BLOCK: tl.constexpr):
    step, even, odd, per_winding = identity(book)
    row = tl.program_id(0).to(tl.int64)
    at = x + row * in_features
    largest = tl.zeros((BLOCK,), dtype=tl.float32)
    sum_even = tl.zeros((BLOCK,), dtype=tl.float32)
    sum_odd = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(0, pairs, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        u = tl.load(at + 2 * columns, mask=2 * columns < in_features, other=0.0).to(tl.float32)
        w = tl.load(at + 2 * columns + 1, mask=2 * columns + 1 < in_features, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.maximum(tl.abs(u), tl.abs(w + u * per_winding)))
        sum_even += u
        sum_odd += w
    scale = tl.maximum(tl.max(largest, axis=0) / 127.0, 1.17549435e-38)
    tl.store(scales + row, scale * step)
    tl.store(offsets + row, even * tl.sum(sum_even, axis=0) + odd * tl.sum(sum_odd, axis=0))
    for first in range(0, pairs, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        u = tl.load(at + 2 * columns, mask=2 * columns < in_features, other=0.0).to(tl.float32)
        w = tl.load(at + 2 * columns + 1, mask=2 * columns + 1 < in_features, other=0.0).to(tl.float32)
        out = integers + row * (2 * pairs) + columns
        tl.store(out, _round(u / scale), mask=columns < pairs)
        tl.store(out + pairs, _round((w + u * per_winding) / scale), mask=columns < pairs)


@triton.jit
def _round(value):
    """Round to the nearest integer, halves up: int8."""
    return tl.floor(value + 0.5).to(tl.int8)


@triton.jit(do_not_specialize=["rows", "count"])
def _product_kernel(
    integers, scales, offsets, x, codes, book, outliers, bias, y, rows, out_features, in_features, pairs, count,
    HAS_BIAS: tl.constexpr, HAS_OUTLIERS: tl.constexpr, PRECISION: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_WIDTH: tl.constexpr, BLOCK_OUTLIERS: tl.constexpr,
):  # fmt: skip
    width = 2 * pairs
    tiles_rows, tiles_out = tl.cdiv(rows, BLOCK_ROWS), tl.cdiv(out_features, BLOCK_OUT)
    tile = tl.program_id(0)
    group = tile // (GROUP * tiles_out)
    height = tl.minimum(tiles_rows - group * GROUP, GROUP)
    samples = (group * GROUP + tile % (GROUP * tiles_out) % height) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    features = (tile % (GROUP * tiles_out) // height) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    columns = tl.arange(0, BLOCK_WIDTH)
    at_codes = codes + features[:, None].to(tl.int64) * width + columns[None, :]
    at_integers = integers + samples[None, :].to(tl.int64) * width + columns[:, None]
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.int32)
    for first in range(0, width, BLOCK_WIDTH):
        inside = first + columns < width
        left = tl.load(at_codes + first, mask=(features[:, None] < out_features) & inside[None, :], other=0)
        right = tl.load(at_integers + first, mask=(samples[None, :] < rows) & inside[:, None], other=0)
        total = tl.dot(left, right, total, out_dtype=tl.int32)
    scale = tl.load(scales + samples, mask=samples < rows, other=0.0)
    offset = tl.load(offsets + samples, mask=samples < rows, other=0.0)
    result = total.to(tl.float32) * scale[None, :] + offset[None, :]
    if HAS_OUTLIERS:
        step, even, odd, per_winding = identity(book)
        result = add_outliers(
            result, x, codes, outliers, 0, count, features, samples, rows, in_features, pairs,
            step, even, odd, per_winding, BLOCK_OUTLIERS, PRECISION,
        )  # fmt: skip
    if HAS_BIAS:
        result += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]
    inside = (samples[None, :] < rows) & (features[:, None] < out_features)
    tl.store(y + at, result.to(y.dtype.element_ty), mask=inside)


def integer_product(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    far: Tensor,
    bias: Tensor | None,
    *,
    card: Card,
    precision: str,
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), for a lattice weight; see `resident.Resident` for the operands.

    Args:
        card: on which it runs.
        precision: of the correction for far outliers in float32, "ieee" or "tf32".
    """
    (rows, in_features), (out_features, width) = x.shape, codes.shape
    integers = torch.empty(rows, width, dtype=torch.int8, device=x.device)
    scales, offsets = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    block = min(triton.next_power_of_2(width // 2), BLOCK_PAIRS)
    _quantise_kernel[(rows,)](x, codebook, integers, scales, offsets, in_features, width // 2, BLOCK=block)
    y = x.new_empty(rows, out_features)
    beyond = outliers[far] if len(far) else far
    block_rows, block_out, block_width, warps = _tile(
        rows * out_features, card, has_correction=x.dtype == torch.float32 and len(far) > 0
    )
    grid = (triton.cdiv(rows, block_rows) * triton.cdiv(out_features, block_out),)
    _product_kernel[grid](
        integers, scales, offsets, x, codes, codebook, beyond, bias, y,
        rows, out_features, in_features, width // 2, len(beyond),
        HAS_BIAS=bias is not None, HAS_OUTLIERS=len(beyond) > 0, PRECISION=precision, GROUP=GROUP,
        BLOCK_ROWS=block_rows, BLOCK_OUT=block_out, BLOCK_WIDTH=block_width, BLOCK_OUTLIERS=BLOCK_OUTLIERS,
        num_warps=warps, num_stages=3,
    )  # fmt: skip
    return y


def _tile(outputs: int, card: Card, *, has_correction: bool) -> tuple[int, int, int, int]:
    """Return rows, outputs and width of a tile, and its warps.

    The largest takes 144 KiB of shared memory on Hopper and 96 KiB on Ampere, and leaves no registers for a correction in
    float32; the second one takes 97 KiB at most.
    """
    if outputs < 1 << 22:
        return 64, 64, 128, 4
    return (256, 128, 128, 8) if card.shared_bytes >= 161 << 10 and not has_correction else (128, 128, 64, 8)
