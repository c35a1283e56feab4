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
from .lattice import BLOCK_OUTLIERS, add_outliers, identity, pair_pointer, paired, split_pair
from .launching import Launcher
from .resident import TILE_ROWS
from .sizes import ceil_div, power_of_2
from .tuning import Tile

MAX_ROWS = 64
MAX_SPLITS = 16
BLOCK_SUMS = 1024
# Outputs, depth and stages of tiles, the likeliest first, by the bytes of an activation. Larger ones spill registers.
SHAPES = {
    2: ((64, 128, 3), (64, 128, 4), (64, 64, 4), (64, 64, 3), (128, 64, 4), (64, 32, 2)),
    4: ((32, 64, 3), (32, 64, 2), (64, 64, 2), (32, 128, 2), (32, 32, 2)),
}


@triton.jit(do_not_specialize=["rows"])
def _few_rows_kernel(
    x, codes, book, outliers, tiles, bias, y, out_features, pairs, share, rows,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr, TILE_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_PAIRS: tl.constexpr, BLOCK_OUTLIERS: tl.constexpr,
):  # fmt: skip
    step, even, odd, per_winding = identity(book)
    tile, split = tl.program_id(0), tl.program_id(1)
    features = tile * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    samples = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    start = split * share
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)
    # Summed over pairs once, after the loop: a sum across threads in each round would wait for all of them.
    offsets = tl.zeros((BLOCK_PAIRS, BLOCK_ROWS), dtype=tl.float32)
    at_codes = codes + features[:, None].to(tl.int64) * (2 * pairs)
    at_x = pair_pointer(x) + samples[None, :].to(tl.int64) * pairs
    for first in range(start, tl.minimum(start + share, pairs), BLOCK_PAIRS):
        columns = first + tl.arange(0, BLOCK_PAIRS)
        inside = (features[:, None] < out_features) & (columns[None, :] < pairs)
        q = tl.load(at_codes + columns[None, :], mask=inside, other=0)
        r = tl.load(at_codes + pairs + columns[None, :], mask=inside, other=0)
        word = tl.load(at_x + columns[:, None], mask=(samples[None, :] < rows) & (columns[:, None] < pairs), other=0)
        x_even, x_odd = split_pair(word, x.dtype.element_ty)
        u, w = x_even.to(tl.float32), x_odd.to(tl.float32)
        v = (w + u * per_winding).to(x_even.dtype)
        total = tl.dot(q.to(x_even.dtype), x_even, total, input_precision=PRECISION)
        total = tl.dot(r.to(x_even.dtype), v, total, input_precision=PRECISION)
        offsets += even * u + odd * w
    total = total * step + tl.sum(offsets, axis=0)[None, :]
    if split == 0:
        low = tl.load(tiles + tile * (BLOCK_OUT // TILE_ROWS))
        end = tl.minimum((tile + 1) * BLOCK_OUT, tl.cdiv(out_features, TILE_ROWS) * TILE_ROWS)
        high = tl.load(tiles + end // TILE_ROWS)
        total = add_outliers(
            total, x, codes, outliers, outliers, low, high, features, samples, rows, pairs,
            step, even, odd, per_winding, False, BLOCK_OUTLIERS, PRECISION,
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


_launch, _launch_sum = Launcher(_few_rows_kernel), Launcher(_sum_kernel)


def tiles_for(rows: int, out_features: int, pairs: int, itemsize: int, card: Card) -> list[Tile]:
    """Return tiles that fit the card, the likeliest first."""
    block_rows = min(max(16, power_of_2(rows)), MAX_ROWS)
    warps = 8 if block_rows == MAX_ROWS else 4
    found = []
    for out, depth, stages in SHAPES[itemsize]:
        if _shared_bytes(block_rows, out, depth, stages, itemsize) > card.shared_bytes:
            continue
        programs = ceil_div(out_features, out) * ceil_div(rows, block_rows)
        most = min(max(1, pairs // (2 * depth)), MAX_SPLITS)
        for waves in (2, 1, 4):
            splits = min(power_of_2(max(1, waves * card.processors // programs)), most)
            found.append(Tile(block_rows, out, depth, splits, warps, stages))
    return list(dict.fromkeys(found)) or [Tile(block_rows, *SHAPES[itemsize][-1][:2], 1, warps, 2)]


def _shared_bytes(rows: int, out: int, depth: int, stages: int, itemsize: int) -> int:
    """Return the shared memory of a program: what is on its way, and operands of the product beside it."""
    on_its_way = (stages - 1) * (2 * out * depth + 2 * itemsize * depth * rows)
    operands = 2 * itemsize * depth * (rows + (out if itemsize == 4 else 0))
    return on_its_way + operands + 4096


def few_rows(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    tiles: Tensor,
    bias: Tensor | None,
    *,
    tile: Tile,
    precision: str,
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), for a lattice weight; see `resident.Resident` for the operands.

    Args:
        tile: one of those that fit the card.
        precision: of float32 products, "ieee" or "tf32".
    """
    x = paired(x)
    rows, out_features, pairs = x.shape[0], codes.shape[0], codes.shape[1] // 2
    share = ceil_div(ceil_div(pairs, tile.splits), tile.depth) * tile.depth
    y = x.new_empty(rows, out_features)
    target = y if tile.splits == 1 else x.new_empty(tile.splits, rows, out_features, dtype=torch.float32)
    _launch(
        (ceil_div(out_features, tile.out), tile.splits, ceil_div(rows, tile.rows)),
        (x, codes, codebook, outliers, tiles, bias, target),
        (out_features, pairs, share, rows),
        {
            "HAS_BIAS": bias is not None, "PARTIAL": tile.splits > 1, "PRECISION": precision, "TILE_ROWS": TILE_ROWS,
            "BLOCK_OUT": tile.out, "BLOCK_ROWS": tile.rows, "BLOCK_PAIRS": tile.depth, "BLOCK_OUTLIERS": BLOCK_OUTLIERS,
        },
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )  # fmt: skip
    if tile.splits > 1:
        sum_parts(target, y)
    return y


def sum_parts(parts: Tensor, y: Tensor) -> None:
    """Write the sum of float32 parts (splits, rows, out) to y (rows, out), added in a fixed order."""
    splits, rows, out_features = parts.shape
    count = rows * out_features
    constants = {"SPLITS": splits, "BLOCK": BLOCK_SUMS}
    _launch_sum((ceil_div(count, BLOCK_SUMS), 1, 1), (parts, y), (count,), constants, {})
