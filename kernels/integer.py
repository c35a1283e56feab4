"""The integer product: activations X (rows, in), quantised row by row, times a lattice weight W (out, in).

    scale = max(|u|, |v|) / 127        A = round([u | v] / scale)        Y = step * scale * (A @ [Q | R].T) + offset + bias
    u = x_even,  v = x_odd + x_even / n,  offset = offset_even * sum(x_even) + offset_odd * sum(x_odd)

One kernel shears, sums and quantises a row of X. A second multiplies int8 by int8 in 32-bit integers, and scales the result.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .gpu import Gpu
from .lattice import BLOCK_OUTLIERS, add_outliers, pair_pointer, paired, split_pair, step_and_offsets
from .launching import Launcher
from .sizes import ceil_div, power_of_2
from .tuning import Tile

PAIRS_PER_WARP = 256  # in registers: 8 words a thread
# The least scale: the smallest normal float32. From a smaller literal, Triton would make the whole kernel float64.
SMALLEST = tl.constexpr(2.0**-126)
TILES = (
    Tile(256, 128, 128, 1, 8, 3),
    Tile(256, 128, 128, 1, 8, 4),
    Tile(128, 256, 128, 1, 8, 3),
    Tile(128, 128, 128, 1, 8, 4),
    Tile(128, 128, 128, 1, 4, 4),
    Tile(128, 128, 64, 1, 8, 3),
    Tile(128, 64, 128, 1, 4, 4),
    Tile(64, 128, 128, 1, 4, 4),
    Tile(64, 64, 128, 1, 4, 3),
    Tile(64, 64, 64, 1, 4, 2),
)
OVERHEAD = 32  # what starting a program costs, in rows and outputs loaded
GROUP = 8  # tiles of rows computed together, so that they read the codes from the L2 cache


def tiles_for(rows: int, out_features: int, gpu: Gpu, *, has_correction: bool) -> list[Tile]:
    """Return the tiles that fit the GPU, first the one that should keep most of its tensor cores busy.

    Args:
        has_correction: whether far outliers are corrected in float32; the largest tiles leave no registers for that.
    """

    def busy(tile: Tile) -> float:
        programs = ceil_div(rows, tile.rows) * ceil_div(out_features, tile.out)
        filled: float = programs / (ceil_div(programs, gpu.processors) * gpu.processors)
        # A tile loads its rows and outputs once, so a large tile computes more for each byte.
        return filled * tile.rows * tile.out / (tile.rows + tile.out + OVERHEAD)

    fits = [
        tile
        for tile in TILES
        if tile.stages * tile.depth * (tile.rows + tile.out) + 4096 <= gpu.shared_bytes
        and not (has_correction and tile.rows * tile.out > 1 << 14)
    ]
    return sorted(fits, key=busy, reverse=True) or [TILES[-1]]


@triton.jit
def _quantise_kernel(x, book, integers, scales, offsets, pairs, BLOCK: tl.constexpr):
    """Shear and quantise one row of activations, which stays in registers between its maximum and its rounding.

        scale    = max_j(|u[j]|, |v[j]|) / 127
        integers = floor([u | v] / scale + 1/2)
        scales   = scale * step
        offsets  = offset_even * sum(x_even) + offset_odd * sum(x_odd)

    Args:
        x: activations (rows, 2*h), row-major, float32, float16 or bfloat16, as `lattice.paired` returns them.
        book: float32 (7,), a codebook that is centred or a grid, in the order of `resident.FIELDS`.
        integers: output, int8 (rows, 2*h): u of the row, then v of the row, as Q and R lie in the codes.
        scales, offsets: outputs, float32 (rows,).
        pairs: h, at most BLOCK.
    """
    step, even, odd, per_winding = step_and_offsets(book)
    row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)  # all vectors below are (pairs,)
    inside = columns < pairs
    word = tl.load(pair_pointer(x) + row * pairs + columns, mask=inside, other=0)
    x_even, x_odd = split_pair(word, x.dtype.element_ty)
    u, w = x_even.to(tl.float32), x_odd.to(tl.float32)
    v = w + u * per_winding
    largest = tl.max(tl.maximum(tl.abs(u), tl.abs(v)), axis=0)
    scale = tl.maximum(largest * (1.0 / 127.0), SMALLEST)
    tl.store(scales + row, scale * step)
    tl.store(offsets + row, tl.sum(even * u + odd * w, axis=0))
    per_scale = tl.div_rn(scale * 0.0 + 1.0, scale)
    out = integers + row * (2 * pairs) + columns
    tl.store(out, _round(u * per_scale), mask=inside)
    tl.store(out + pairs, _round(v * per_scale), mask=inside)


@triton.jit
def _round(value):
    """Return `value` rounded to the nearest integer, halves up, as int8."""
    return tl.floor(value + 0.5).to(tl.int8)


@triton.jit(do_not_specialize=["rows", "count"])
def _product_kernel(
    integers, scales, offsets, x, codes, book, outliers, far, bias, y, out_features, pairs, rows, count,
    HAS_BIAS: tl.constexpr, HAS_OUTLIERS: tl.constexpr, IS_EVEN: tl.constexpr, PRECISION: tl.constexpr,
    GROUP: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    BLOCK_OUTLIERS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of Y.T (out, rows):

        Y.T[i, b] = scales[b] * sum_k (codes[i, k] * integers[b, k]) + offsets[b] + correction + bias[i]

    The sum is exact in int32 for rows of up to `resident.MAX_INTEGER_WIDTH` bytes. `lattice.add_outliers` computes the
    correction, for outliers too far away for a byte. Programs are numbered so that GROUP tiles of rows come before the next
    tile of outputs: they read the same codes, from the L2 cache.

    Args:
        integers, scales, offsets: what `_quantise_kernel` wrote for x.
        x: the activations themselves, (rows, 2*h), for the correction.
        codes: int8 (out, 2*h), row-major: Q of the row, then R of the row.
        book, outliers, far: see `resident.Resident`; count is the number of far outliers.
        bias: (out,) in the dtype of x; read with HAS_BIAS.
        y: output (rows, out), in the dtype of x.
        pairs: h.
        IS_EVEN: 2*h is a multiple of BLOCK_WIDTH, so that loads need no mask.
        PRECISION: of products of float32, "ieee" or "tf32".
    """
    width = 2 * pairs
    tiles_rows, tiles_out = tl.cdiv(rows, BLOCK_ROWS), tl.cdiv(out_features, BLOCK_OUT)
    tile = tl.program_id(0)
    group = tile // (GROUP * tiles_out)
    height = tl.minimum(tiles_rows - group * GROUP, GROUP)
    samples = (group * GROUP + tile % (GROUP * tiles_out) % height) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # (rows,)
    features = (tile % (GROUP * tiles_out) // height) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)  # (out,)
    columns = tl.arange(0, BLOCK_WIDTH)  # (width,)
    # Rows and outputs beyond the last read those from the start and are not stored, so that loads need no mask for them.
    at_codes = codes + (features % out_features)[:, None].to(tl.int64) * width + columns[None, :]
    at_integers = integers + (samples % rows)[None, :].to(tl.int64) * width + columns[:, None]
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.int32)  # (out, rows)
    for first in range(0, width, BLOCK_WIDTH):
        if IS_EVEN:  # (out, width) and (width, rows)
            left, right = tl.load(at_codes + first), tl.load(at_integers + first)
        else:
            inside = first + columns < width
            left = tl.load(at_codes + first, mask=inside[None, :], other=0)
            right = tl.load(at_integers + first, mask=inside[:, None], other=0)
        total = tl.dot(left, right, total, out_dtype=tl.int32)
    scale = tl.load(scales + samples, mask=samples < rows, other=0.0)
    offset = tl.load(offsets + samples, mask=samples < rows, other=0.0)
    result = total.to(tl.float32) * scale[None, :] + offset[None, :]  # (out, rows)
    if HAS_OUTLIERS:
        step, even, odd, per_winding = step_and_offsets(book)
        result = add_outliers(
            result, x, codes, outliers, far, 0, count, features, samples, rows, pairs,
            step, even, odd, per_winding, True, BLOCK_OUTLIERS, PRECISION,
        )  # fmt: skip
    if HAS_BIAS:
        result += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]
    inside = (samples[None, :] < rows) & (features[:, None] < out_features)
    tl.store(y + at, result.to(y.dtype.element_ty), mask=inside)


_launch_quantising, _launch_product = Launcher(_quantise_kernel), Launcher(_product_kernel)


def integer_product(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    far: Tensor,
    bias: Tensor | None,
    *,
    tile: Tile,
    precision: str,
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), for a lattice weight; `resident.Resident` describes the operands.

    Args:
        x: contiguous, (rows, in) in float32, float16 or bfloat16.
        tile: one that `tiles_for` returns.
        precision: of the correction for far outliers in float32, "ieee" or "tf32".
    """
    x = paired(x)
    rows, (out_features, width) = x.shape[0], codes.shape
    integers = torch.empty(rows, width, dtype=torch.int8, device=x.device)
    scales, offsets = (torch.empty(rows, dtype=torch.float32, device=x.device) for _ in range(2))
    block = power_of_2(width // 2)  # a row stays in registers between its maximum and its rounding
    warps = min(max(block // PAIRS_PER_WARP, 1), 32)
    _launch_quantising(
        (rows, 1, 1), (x, codebook, integers, scales, offsets), (width // 2,), {"BLOCK": block}, {"num_warps": warps}
    )
    y = x.new_empty(rows, out_features)
    _launch_product(
        (ceil_div(rows, tile.rows) * ceil_div(out_features, tile.out), 1, 1),
        (integers, scales, offsets, x, codes, codebook, outliers, far, bias, y),
        (out_features, width // 2, rows, far.shape[0]),
        {
            "HAS_BIAS": bias is not None, "HAS_OUTLIERS": far.shape[0] > 0, "IS_EVEN": width % tile.depth == 0,
            "PRECISION": precision, "GROUP": GROUP, "BLOCK_ROWS": tile.rows, "BLOCK_OUT": tile.out,
            "BLOCK_WIDTH": tile.depth, "BLOCK_OUTLIERS": BLOCK_OUTLIERS,
        },
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )  # fmt: skip
    return y
