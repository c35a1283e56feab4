"""The product for few rows of activations, without decoding: X (rows, in) times a lattice weight (out, in), rows <= 64.

    y = step * (Q @ u + R @ v) + offset_even * sum(x_even) + offset_odd * sum(x_odd) + outliers @ x + bias
    u = x_even,  v = x_odd + x_even / n

A program takes a tile of output rows and a share of the input (split-K), and reads every byte of its codes once. The integer
operand stands on the left, where it may live in registers. Shares are added in a fixed order by a second kernel.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .card import Card
from .lattice import BLOCK_OUTLIERS, add_outliers, identity
from .resident import TILE_ROWS

MAX_ROWS = 64
# Programs to keep a card busy: its multiprocessors times this.
WAVES = 2


@triton.jit(do_not_specialize=["rows"])
def _few_rows_kernel(
    x, codes, book, outliers, tiles, bias, y, rows, out_features, in_features, pairs, share,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr, TILE_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_PAIRS: tl.constexpr, BLOCK_OUTLIERS: tl.constexpr,
):  # fmt: skip
    step, even, odd, per_winding = identity(book)
    tile, split = tl.program_id(0), tl.program_id(1)
    features = tile * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    samples = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    start = split * share
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)
    sum_even = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    sum_odd = tl.zeros((BLOCK_ROWS,), dtype=tl.float32)
    at_codes = codes + features[:, None].to(tl.int64) * (2 * pairs)
    at_x = x + samples[None, :].to(tl.int64) * in_features
    for first in range(start, tl.minimum(start + share, pairs), BLOCK_PAIRS):
        columns = first + tl.arange(0, BLOCK_PAIRS)
        inside = (features[:, None] < out_features) & (columns[None, :] < pairs)
        q = tl.load(at_codes + columns[None, :], mask=inside, other=0)
        r = tl.load(at_codes + pairs + columns[None, :], mask=inside, other=0)
        known = samples[None, :] < rows
        x_even = tl.load(at_x + 2 * columns[:, None], mask=known & (2 * columns[:, None] < in_features), other=0.0)
        x_odd = tl.load(
            at_x + 2 * columns[:, None] + 1, mask=known & (2 * columns[:, None] + 1 < in_features), other=0.0
        )
        v = (x_odd.to(tl.float32) + x_even.to(tl.float32) * per_winding).to(x_even.dtype)
        total = tl.dot(q.to(x_even.dtype), x_even, total, input_precision=PRECISION)
        total = tl.dot(r.to(x_even.dtype), v, total, input_precision=PRECISION)
        sum_even += tl.sum(x_even.to(tl.float32), axis=0)
        sum_odd += tl.sum(x_odd.to(tl.float32), axis=0)
    total = total * step + (even * sum_even + odd * sum_odd)[None, :]
    if split == 0:
        low = tl.load(tiles + tile * (BLOCK_OUT // TILE_ROWS))
        end = tl.minimum((tile + 1) * BLOCK_OUT, tl.cdiv(out_features, TILE_ROWS) * TILE_ROWS)
        high = tl.load(tiles + end // TILE_ROWS)
        total = add_outliers(
            total, x, codes, outliers, low, high, features, samples, rows, in_features, pairs,
            step, even, odd, per_winding, BLOCK_OUTLIERS, PRECISION,
        )  # fmt: skip
        if HAS_BIAS:
            total += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    inside = (samples[None, :] < rows) & (features[:, None] < out_features)
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]
    if PARTIAL:
        at += split.to(tl.int64) * rows * out_features
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def _sum_kernel(parts, y, count, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * count.to(tl.int64) + places, mask=places < count, other=0.0)
    tl.store(y + places, total.to(y.dtype.element_ty), mask=places < count)


def few_rows(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
    bias: Tensor | None,
    *,
    card: Card,
    precision: str,
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), for a lattice weight; see `resident.Resident` for the operands.

    Args:
        card: on which it runs.
        precision: of float32 products, "ieee" or "tf32".
    """
    (rows, in_features), out_features, pairs = x.shape, len(codes), codes.shape[1] // 2
    block_rows = min(max(16, triton.next_power_of_2(rows)), MAX_ROWS)
    block_out, block_pairs = (64, 128) if x.element_size() == 2 else (32, 64)
    tiles_out, tiles_rows = triton.cdiv(out_features, block_out), triton.cdiv(rows, block_rows)
    most = max(1, pairs // (2 * block_pairs))
    splits = min(triton.next_power_of_2(max(1, WAVES * card.processors // (tiles_out * tiles_rows))), most, 16)
    share = triton.cdiv(triton.cdiv(pairs, splits), block_pairs) * block_pairs
    y = x.new_empty(rows, out_features)
    target = y if splits == 1 else x.new_empty(splits, rows, out_features, dtype=torch.float32)
    warps = 8 if block_rows == MAX_ROWS else 4
    _few_rows_kernel[(tiles_out, splits, tiles_rows)](
        x, codes, codebook, outliers, tiles, bias, target, rows, out_features, in_features, pairs, share,
        HAS_BIAS=bias is not None, PARTIAL=splits > 1, PRECISION=precision, TILE_ROWS=TILE_ROWS, BLOCK_OUT=block_out,
        BLOCK_ROWS=block_rows, BLOCK_PAIRS=block_pairs, BLOCK_OUTLIERS=BLOCK_OUTLIERS, num_warps=warps, num_stages=3,
    )  # fmt: skip
    if splits > 1:
        _sum_kernel[(triton.cdiv(y.numel(), 1024),)](target, y, y.numel(), SPLITS=splits, BLOCK=1024)
    return y
