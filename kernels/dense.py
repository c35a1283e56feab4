"""Decoding a weight: W (out, in) from codes (out, 2*h) int8 or (out, h) int16 or int32, with h = ceil(in / 2) pairs a row.

Each pair of codes becomes two float32 weights with exactly the roundings that the format defines (format_spec/README.md, on
decoding), and these are rounded once to the dtype of the output. `decode_pair` is the only place where Triton decodes.

The kernel is bound by memory: for each byte of codes it writes 2 (half precision) or 4 (float32) bytes. cuBLAS then multiplies
the weight while it is still in the L2 cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launching import Launcher
from .sizes import ceil_div

BLOCK_ROWS = 8
BLOCK_PAIRS = 256
BLOCK_OUTLIERS = 256


@triton.jit
def decode_pair(winding, phase, shell, book, LATTICE: tl.constexpr):
    """Return the float32 weights (even, odd) of a pair of codes, elementwise.

        step  = winding * n + phase                            position on the trajectory, of n * n steps
        x     = (step - (n * n - 1) / 2) * side / (n * n)      centred square; a corner square has n * n / 2
        y     = (phase - (n - 1) / 2) * side / n               centred square
        y     = step * side / n mod side - side / 2            corner square, in float32 as published
        x, y  = (winding - n // 2, phase - n // 2) * side / n  grid
        even  = x * scale + centre_even,  odd = y * scale + centre_odd
        scale = (side / 2 + shell * spacing) / (side / 2)      1 in shell 0

    Launch kernels that call this with `enable_fp_fusion=False`: a fused multiply-add rounds once where the format rounds twice.

    Args:
        winding, phase, shell: int32 of one shape, winding and phase in 0 ... n - 1.
        book: pointer to the seven float32 fields of a codebook, in the order of `resident.FIELDS`.
        LATTICE: the square is centred or a grid, and the shell is 0, so that the scale is exactly 1 and `shell` is not used.
    """
    centre_even, centre_odd = tl.load(book), tl.load(book + 1)
    side, windings = tl.load(book + 2), tl.load(book + 3)
    is_centred = LATTICE or tl.load(book + 6) > 0
    is_grid = tl.load(book + 6) > 1.0
    half_n = (windings.to(tl.int32) // 2).to(tl.float32)
    run = tl.where(is_grid, 1.0, windings)  # steps along x from winding to winding
    pitch_x = tl.div_rn(side, windings * run)
    origin_x = tl.where(is_grid, half_n, (windings * windings - tl.where(is_centred, 1.0, 0.0)) * 0.5)
    q, r = winding.to(tl.float32), phase.to(tl.float32)
    step = q * run + tl.where(is_grid, 0.0, r)  # below 2^16, so exact in float32
    x = (step - origin_x) * pitch_x
    if is_centred:
        y = (r - tl.where(is_grid, half_n, (windings - 1.0) * 0.5)) * tl.div_rn(side, windings)
    else:  # the remainder of a float32 product, as the published code computes it
        along = step * (pitch_x * windings)
        wrapped = along.to(tl.float64) - q.to(tl.float64) * side.to(tl.float64)
        y = wrapped.to(tl.float32) - side * 0.5
    if not LATTICE:
        half = side * 0.5
        scale = tl.div_rn(half + shell.to(tl.float32) * tl.load(book + 5), half + tl.zeros_like(q))
        x, y = x * scale, y * scale
    return x + centre_even, y + centre_odd


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
    """Decode a tile of BLOCK_ROWS rows by BLOCK_PAIRS pairs: W[i, 2j], W[i, 2j + 1] = decode_pair(codes[i, j]).

    Args:
        codes: with LATTICE, int8 (out, 2*h): Q of the row, then R of the row. Else scalar codes
            (shell * n + winding) * n + phase, int32 (out, h), or with NARROW int16 that holds unsigned values.
        book: float32 (7,), the codebook.
        weight: output (out, in), row-major, of any floating-point dtype; every element is written.
        pairs: h.
    """
    rows = (tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)).to(tl.int64)[:, None]  # (rows, 1)
    columns = (tl.program_id(1) * BLOCK_PAIRS + tl.arange(0, BLOCK_PAIRS))[None, :]  # (1, pairs)
    inside = (rows < out_features) & (columns < pairs)  # (rows, pairs)
    windings = tl.load(book + 3).to(tl.int32)
    if LATTICE:
        at = codes + rows * (2 * pairs) + columns
        winding = tl.load(at, mask=inside, other=0).to(tl.int32) + windings // 2  # (rows, pairs)
        phase = tl.load(at + pairs, mask=inside, other=0).to(tl.int32) + windings // 2  # (rows, pairs)
        shell = phase  # not used
    else:
        scalar = tl.load(codes + rows * pairs + columns, mask=inside, other=0).to(tl.int32)  # (rows, pairs)
        if NARROW:
            scalar = scalar & 0xFFFF
        shell = scalar // (windings * windings)
        scalar -= shell * (windings * windings)
        winding = scalar // windings
        phase = scalar - winding * windings
    even, odd = decode_pair(winding, phase, shell, book, LATTICE)  # (rows, pairs) each
    weights = tl.interleave(even, odd)  # (rows, 2 * pairs)
    features = (tl.program_id(1) * (2 * BLOCK_PAIRS) + tl.arange(0, 2 * BLOCK_PAIRS))[None, :]
    inside = (rows < out_features) & (features < in_features)
    tl.store(weight + rows * in_features + features, weights.to(weight.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["count"])
def _outlier_kernel(outliers, weight, in_features, pairs, count, BLOCK: tl.constexpr):
    """Overwrite the pairs in shells, which the bytes of a lattice weight only approximate, with their decoded weights.

        W[row, 2j], W[row, 2j + 1] = even, odd      row, j = divmod(index, h)

    Args:
        outliers: int32 (count, 3), rows of (index, bits of even, bits of odd); the weights are float32.
        weight: (out, in), written in place.
        pairs: h.
    """
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # (outliers,), as all that follows
    inside = places < count
    entry = outliers + places.to(tl.int64) * 3
    index = tl.load(entry, mask=inside, other=0)
    even = tl.load(entry + 1, mask=inside, other=0).to(tl.float32, bitcast=True)
    odd = tl.load(entry + 2, mask=inside, other=0).to(tl.float32, bitcast=True)
    row, column = index // pairs, index % pairs
    at = weight + row.to(tl.int64) * in_features + 2 * column
    tl.store(at, even.to(weight.dtype.element_ty), mask=inside)
    # With an odd number of features, the second half of a row's last pair is padding.
    tl.store(at + 1, odd.to(weight.dtype.element_ty), mask=inside & (2 * column + 1 < in_features))


_launch, _launch_outliers = Launcher(_decode_kernel), Launcher(_outlier_kernel)


def decode(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Return the dense weight (out, in_features); `resident.Resident` describes the operands."""
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
