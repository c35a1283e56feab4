"""The product for few rows of activations: X (rows, in) times a lattice weight W (out, in) without decoding it, rows <= 64.

    Y.T = step * (Q @ u + R @ v) + offset_even * sum(x_even) + offset_odd * sum(x_odd) + outliers @ X.T + bias
    u = x_even,  v = x_odd + x_even / n

A few rows are bound by memory: the codes are read once, 8 bits a weight against 16 of a half-precision layer, so twice its
speed is the ceiling. A program computes a tile of outputs from a share of the input (split-K), because one program a tile
would leave most processors idle. A second kernel adds the shares in a fixed order, so that results are deterministic.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .gpu import Gpu
from .lattice import BLOCK_OUTLIERS, add_outliers, pair_pointer, paired, split_pair, step_and_offsets
from .launching import Launcher
from .resident import ROWS_PER_START
from .sizes import ceil_div, power_of_2
from .tuning import Tile

MAX_ROWS = 64
MAX_SPLITS = 16
BLOCK_SUMS = 1024
# Outputs, depth and stages of tiles by the bytes of an activation, the most promising first. Larger tiles spill registers.
SHAPES = {
    2: ((64, 128, 3), (64, 128, 4), (64, 64, 4), (64, 64, 3), (128, 64, 4), (64, 32, 2)),
    4: ((32, 64, 3), (32, 64, 2), (64, 64, 2), (32, 128, 2), (32, 32, 2)),
}


def tiles_for(rows: int, out_features: int, pairs: int, itemsize: int, gpu: Gpu) -> list[Tile]:
    """Return the tiles that fit the GPU, the most promising first."""
    block_rows = min(max(16, power_of_2(rows)), MAX_ROWS)
    warps = 8 if block_rows == MAX_ROWS else 4
    found = []
    for out, depth, stages in SHAPES[itemsize]:
        if _shared_bytes(block_rows, out, depth, stages, itemsize) > gpu.shared_bytes:
            continue
        programs = ceil_div(out_features, out) * ceil_div(rows, block_rows)
        most = min(max(1, pairs // (2 * depth)), MAX_SPLITS)  # a share has at least two rounds of the loop
        for waves in (2, 1, 4):
            splits = min(power_of_2(max(1, waves * gpu.processors // programs)), most)
            found.append(Tile(block_rows, out, depth, splits, warps, stages))
    return list(dict.fromkeys(found)) or [Tile(block_rows, *SHAPES[itemsize][-1][:2], 1, warps, 2)]


def _shared_bytes(rows: int, out: int, depth: int, stages: int, itemsize: int) -> int:
    """Return the shared memory of a program in bytes: the tiles being loaded, and the operands of the current product."""
    on_its_way = (stages - 1) * (2 * out * depth + 2 * itemsize * depth * rows)
    operands = 2 * itemsize * depth * (rows + (out if itemsize == 4 else 0))
    return on_its_way + operands + 4096


@triton.jit(do_not_specialize=["rows"])
def _few_rows_kernel(
    x, codes, book, outliers, outlier_starts, bias, y, out_features, pairs, share, rows,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr, ROWS_PER_START: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_PAIRS: tl.constexpr, BLOCK_OUTLIERS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of Y.T (out, rows) from one share of the pairs: program (tile of outputs, share, tile of rows).

        total[i, b] = step * sum_j (Q[i, j] * u[j, b] + R[i, j] * v[j, b])
                    + sum_j (offset_even * x_even[j, b] + offset_odd * x_odd[j, b])

    The first share adds the outliers and the bias. The integers stand on the left of `tl.dot`: on Hopper only that operand may
    come from registers, so they are converted there and not sent through shared memory again.

    Args:
        x: activations (rows, 2*h), row-major, float32, float16 or bfloat16, as `lattice.paired` returns them.
        codes: int8 (out, 2*h), row-major: Q of the row, then R of the row.
        book: float32 (7,), a codebook that is centred or a grid, in the order of `resident.FIELDS`.
        outliers, outlier_starts: int32, see `resident.Resident`.
        bias: (out,) in the dtype of x; read with HAS_BIAS.
        y: output; (rows, out) in the dtype of x, or with PARTIAL one part for each share, float32 (splits, rows, out).
        pairs, share: h, and how many pairs a program takes, a multiple of BLOCK_PAIRS.
        PRECISION: of products of float32, "ieee" or "tf32".
    """
    step, even, odd, per_winding = step_and_offsets(book)
    tile, split = tl.program_id(0), tl.program_id(1)
    features = tile * BLOCK_OUT + tl.arange(0, BLOCK_OUT)  # (out,)
    samples = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # (rows,)
    start = split * share
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)  # (out, rows)
    # Summed over pairs after the loop: a sum across threads in each round would wait for all of them.
    offsets = tl.zeros((BLOCK_PAIRS, BLOCK_ROWS), dtype=tl.float32)  # (pairs, rows)
    at_codes = codes + features[:, None].to(tl.int64) * (2 * pairs)
    at_x = pair_pointer(x) + samples[None, :].to(tl.int64) * pairs
    for first in range(start, tl.minimum(start + share, pairs), BLOCK_PAIRS):
        columns = first + tl.arange(0, BLOCK_PAIRS)  # (pairs,)
        inside = (features[:, None] < out_features) & (columns[None, :] < pairs)
        q = tl.load(at_codes + columns[None, :], mask=inside, other=0)  # (out, pairs)
        r = tl.load(at_codes + pairs + columns[None, :], mask=inside, other=0)
        word = tl.load(at_x + columns[:, None], mask=(samples[None, :] < rows) & (columns[:, None] < pairs), other=0)
        x_even, x_odd = split_pair(word, x.dtype.element_ty)  # (pairs, rows)
        u, w = x_even.to(tl.float32), x_odd.to(tl.float32)
        v = (w + u * per_winding).to(x_even.dtype)
        total = tl.dot(q.to(x_even.dtype), x_even, total, input_precision=PRECISION)  # (out, rows)
        total = tl.dot(r.to(x_even.dtype), v, total, input_precision=PRECISION)
        offsets += even * u + odd * w
    total = total * step + tl.sum(offsets, axis=0)[None, :]
    if split == 0:
        low = tl.load(outlier_starts + tile * (BLOCK_OUT // ROWS_PER_START))
        end = tl.minimum((tile + 1) * BLOCK_OUT, tl.cdiv(out_features, ROWS_PER_START) * ROWS_PER_START)
        high = tl.load(outlier_starts + end // ROWS_PER_START)
        total = add_outliers(
            total, x, codes, outliers, outliers, low, high, features, samples, rows, pairs,
            step, even, odd, per_winding, False, BLOCK_OUTLIERS, PRECISION,
        )  # fmt: skip
        if HAS_BIAS:
            total += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    inside = (samples[None, :] < rows) & (features[:, None] < out_features)
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]  # Y is (rows, out)
    if PARTIAL:
        at += split.to(tl.int64) * rows * out_features
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def _sum_kernel(parts, y, count, SPLITS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the shares of split-K, always in the same order: y[k] = sum_s parts[s, k], summed in float32.

    Args:
        parts: float32 (SPLITS, count).
        y: output (count,) of any floating-point dtype.
    """
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * count.to(tl.int64) + places, mask=places < count, other=0.0)
    tl.store(y + places, total.to(y.dtype.element_ty), mask=places < count)


_launch, _launch_sum = Launcher(_few_rows_kernel), Launcher(_sum_kernel)


def few_rows(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    outlier_starts: Tensor,
    bias: Tensor | None,
    *,
    tile: Tile,
    precision: str,
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), for a lattice weight; `resident.Resident` describes the operands.

    Args:
        x: contiguous, (rows, in) in float32, float16 or bfloat16, at most `MAX_ROWS` rows in a tile.
        tile: one that `tiles_for` returns.
        precision: of float32 products, "ieee" or "tf32".
    """
    x = paired(x)
    rows, out_features, pairs = x.shape[0], codes.shape[0], codes.shape[1] // 2
    share = ceil_div(ceil_div(pairs, tile.splits), tile.depth) * tile.depth
    y = x.new_empty(rows, out_features)
    target = y if tile.splits == 1 else x.new_empty(tile.splits, rows, out_features, dtype=torch.float32)
    _launch(
        (ceil_div(out_features, tile.out), tile.splits, ceil_div(rows, tile.rows)),
        (x, codes, codebook, outliers, outlier_starts, bias, target),
        (out_features, pairs, share, rows),
        {
            "HAS_BIAS": bias is not None, "PARTIAL": tile.splits > 1, "PRECISION": precision, "ROWS_PER_START": ROWS_PER_START,
            "BLOCK_OUT": tile.out, "BLOCK_ROWS": tile.rows, "BLOCK_PAIRS": tile.depth, "BLOCK_OUTLIERS": BLOCK_OUTLIERS,
        },
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )  # fmt: skip
    if tile.splits > 1:
        sum_parts(target, y)
    return y


def sum_parts(parts: Tensor, y: Tensor) -> None:
    """Write the sum of `parts`, float32 (splits, rows, out), to y (rows, out), added in a fixed order."""
    splits, rows, out_features = parts.shape
    count = rows * out_features
    constants = {"SPLITS": splits, "BLOCK": BLOCK_SUMS}
    _launch_sum((ceil_div(count, BLOCK_SUMS), 1, 1), (parts, y), (count,), constants, {})
