"""Codes to a dense weight: W (out, in) from codes (out, 2*h) int8 or (out, h) int16 or int32.

Writes 2 or 4 bytes for each byte read. The weight is then multiplied by cuBLAS, while it is still in the L2 cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .decoding import decode_pair
from .launching import Launcher
from .sizes import ceil_div

BLOCK_ROWS = 8
BLOCK_PAIRS = 256
BLOCK_OUTLIERS = 256


@triton.jit
def _decode_kernel(
    codes,
    book,
    weight,
    out_features,
    in_features,
    pairs,
    LATTICE: tl.constexpr,
    NARROW: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
):
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(tl.int64)[:, None]
    columns = (tl.program_id(1) * BLOCK_PAIRS + tl.arange(0, BLOCK_PAIRS))[None, :]
    inside = (rows < out_features) & (columns < pairs)
    windings = tl.load(book + 3).to(tl.int32)
    if LATTICE:
        at = codes + rows * (2 * pairs) + columns
        winding = tl.load(at, mask=inside, other=0).to(tl.int32) + windings // 2
        phase = tl.load(at + pairs, mask=inside, other=0).to(tl.int32) + windings // 2
        shell = phase  # there is none
    else:
        scalar = tl.load(codes + rows * pairs + columns, mask=inside, other=0).to(tl.int32)
        if NARROW:
            scalar = scalar & 0xFFFF
        shell = scalar // (windings * windings)
        scalar -= shell * (windings * windings)
        winding = scalar // windings
        phase = scalar - winding * windings
    even, odd = decode_pair(winding, phase, shell, book, LATTICE)
    weights = tl.interleave(even, odd)
    features = (tl.program_id(1) * (2 * BLOCK_PAIRS) + tl.arange(0, 2 * BLOCK_PAIRS))[None, :]
    inside = (rows < out_features) & (features < in_features)
    tl.store(weight + rows * in_features + features, weights.to(weight.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def _outlier_kernel(outliers, weight, in_features, pairs, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    entry = outliers + places.to(tl.int64) * 3
    index = tl.load(entry, mask=inside, other=0)
    even = tl.load(entry + 1, mask=inside, other=0).to(tl.float32, bitcast=True)
    odd = tl.load(entry + 2, mask=inside, other=0).to(tl.float32, bitcast=True)
    row, column = index // pairs, index % pairs
    at = weight + row.to(tl.int64) * in_features + 2 * column
    tl.store(at, even.to(weight.dtype.element_ty), mask=inside)
    tl.store(at + 1, odd.to(weight.dtype.element_ty), mask=inside & (2 * column + 1 < in_features))


_launch, _launch_outliers = Launcher(_decode_kernel), Launcher(_outlier_kernel)


def decode(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Return the dense weight (out, in_features); see `resident.Resident` for the operands."""
    out_features, pairs = codes.shape[0], (in_features + 1) // 2
    weight = torch.empty(out_features, in_features, dtype=dtype, device=codes.device)
    constants = {"LATTICE": codes.dtype == torch.int8, "NARROW": codes.dtype == torch.int16}
    _launch(
        (ceil_div(out_features, BLOCK_ROWS), ceil_div(pairs, BLOCK_PAIRS), 1),
        (codes, codebook, weight),
        (out_features, in_features, pairs),
        constants | {"BLOCK_ROWS": BLOCK_ROWS, "BLOCK_PAIRS": BLOCK_PAIRS},
        {"enable_fp_fusion": False},
    )
    if outliers.shape[0]:
        count = outliers.shape[0]
        grid = (ceil_div(count, BLOCK_OUTLIERS), 1, 1)
        _launch_outliers(grid, (outliers, weight), (in_features, pairs, count), {"BLOCK": BLOCK_OUTLIERS}, {})
    return weight
