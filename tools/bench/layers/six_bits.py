"""An experiment: weights held at 6 bits, for codebooks of up to 64 windings, and the same product at 8 bits.

    y = step * (Q @ u + R @ v) + offset_even * sum(x_even) + offset_odd * sum(x_odd) + bias
    u = x_even,  v = x_odd + x_even / n

Zeros fill each row up to 4*S integers Q | R, where S is a multiple of 16. At 6 bits a row is cut into quarters a, b, c, d of S
integers. With 32 added, all lie in 0 ... 63, and position i of the four quarters takes a byte in each of three planes:

    b0 = a | (d & 3) << 6        b1 = b | (d >> 2 & 3) << 6        b2 = c | (d >> 4) << 6

A program loads tiles of the three planes and multiplies four tiles of integers, each with its own slice of the activations, so
that nothing is interleaved along the inner dimension. One kernel prepares the activations [u | v] for both products. The
products differ in layout, and in how integers become floating numbers: the fraction of a bfloat16 holds 6 bits, but not 8.
Shares of the input (split-K) are added in a fixed order by another kernel.
"""

# ruff: noqa: N803 (compile-time constants of Triton kernels)

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from bhk.codec.codebook import Codebook, Codes
from bhk.kernels.few_rows import sum_parts
from bhk.kernels.gpu import float32_precision, gpu_of
from bhk.kernels.lattice import step_and_offsets
from bhk.kernels.resident import make_resident

MAX_WINDINGS = 64
# S is a multiple of this, so that 16 bytes can be loaded at once from the start of a plane's row.
ALIGNMENT = 16
BLOCK_OUT, MAX_ROWS = 64, 64
BLOCK_PAIRS = 4096
# Programs for each multiprocessor that keep a GPU busy.
WAVES = 2


@triton.jit
def _signed(integers, dtype: tl.constexpr):
    """Return `integers`, int16 in 0 ... 63, less 32, as floating `dtype`."""
    # An integer in the lowest bits of 128 or 1024 is added to it, two in one operation; a conversion takes more.
    if dtype == tl.bfloat16:
        values = (integers | 0x4300).to(dtype, bitcast=True) - 160.0
    elif dtype == tl.float16:
        values = (integers | 0x6400).to(dtype, bitcast=True) - 1056.0
    else:
        values = integers.to(dtype) - 32.0
    return values


@triton.jit
def _shear_kernel(x, book, sheared, offsets, in_features, quarter, BLOCK: tl.constexpr):
    _, even, odd, per_winding = step_and_offsets(book)
    row = tl.program_id(0).to(tl.int64)
    at = x + row * in_features
    sum_even = tl.zeros((BLOCK,), dtype=tl.float32)
    sum_odd = tl.zeros((BLOCK,), dtype=tl.float32)
    for first in range(0, 2 * quarter, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        u = tl.load(at + 2 * columns, mask=2 * columns < in_features, other=0.0).to(tl.float32)
        w = tl.load(at + 2 * columns + 1, mask=2 * columns + 1 < in_features, other=0.0).to(tl.float32)
        sum_even += u
        sum_odd += w
        out = sheared + row * (4 * quarter) + columns
        tl.store(out, u.to(x.dtype.element_ty), mask=columns < 2 * quarter)
        tl.store(out + 2 * quarter, (w + u * per_winding).to(x.dtype.element_ty), mask=columns < 2 * quarter)
    tl.store(offsets + row, even * tl.sum(sum_even, axis=0) + odd * tl.sum(sum_odd, axis=0))


@triton.jit
def _store(
    total, book, offsets, bias, y, features, samples, split, rows, out_features,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr,
):  # fmt: skip
    """Scale `total` (tile of outputs, tile of samples) and store it; the first share adds offsets and bias."""
    step, _, _, _ = step_and_offsets(book)
    total *= step
    if split == 0:
        total += tl.load(offsets + samples, mask=samples < rows, other=0.0)[None, :]
        if HAS_BIAS:
            total += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]
    if PARTIAL:
        at += split.to(tl.int64) * rows * out_features
    tl.store(y + at, total.to(y.dtype.element_ty), mask=(samples[None, :] < rows) & (features[:, None] < out_features))


@triton.jit(do_not_specialize=["rows"])
def _six_bit_kernel(
    sheared, planes, book, offsets, bias, y, rows, out_features, quarter, share,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(1)
    features = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    samples = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)
    at_planes = planes + features[:, None].to(tl.int64) * (3 * quarter)
    at_x = sheared + samples[None, :].to(tl.int64) * (4 * quarter)
    dtype: tl.constexpr = sheared.dtype.element_ty
    for first in range(split * share, tl.minimum((split + 1) * share, quarter), BLOCK):
        columns = first + tl.arange(0, BLOCK)
        inside = (features[:, None] < out_features) & (columns[None, :] < quarter)
        b0 = tl.load(at_planes + columns[None, :], mask=inside, other=0).to(tl.int16)
        b1 = tl.load(at_planes + quarter + columns[None, :], mask=inside, other=0).to(tl.int16)
        b2 = tl.load(at_planes + 2 * quarter + columns[None, :], mask=inside, other=0).to(tl.int16)
        known = (samples[None, :] < rows) & (columns[:, None] < quarter)
        a = _signed(b0 & 63, dtype)
        b = _signed(b1 & 63, dtype)
        c = _signed(b2 & 63, dtype)
        d = _signed(b0 >> 6 | b1 >> 6 << 2 | b2 >> 6 << 4, dtype)
        x0 = tl.load(at_x + columns[:, None], mask=known, other=0.0)
        x1 = tl.load(at_x + quarter + columns[:, None], mask=known, other=0.0)
        x2 = tl.load(at_x + 2 * quarter + columns[:, None], mask=known, other=0.0)
        x3 = tl.load(at_x + 3 * quarter + columns[:, None], mask=known, other=0.0)
        total = tl.dot(a, x0, total, input_precision=PRECISION)
        total = tl.dot(b, x1, total, input_precision=PRECISION)
        total = tl.dot(c, x2, total, input_precision=PRECISION)
        total = tl.dot(d, x3, total, input_precision=PRECISION)
    _store(total, book, offsets, bias, y, features, samples, split, rows, out_features, HAS_BIAS, PARTIAL)


@triton.jit(do_not_specialize=["rows"])
def _eight_bit_kernel(
    sheared, integers, book, offsets, bias, y, rows, out_features, quarter, share,
    HAS_BIAS: tl.constexpr, PARTIAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(1)
    features = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    samples = tl.program_id(2) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)
    width = 4 * quarter
    at_integers = integers + features[:, None].to(tl.int64) * width
    at_x = sheared + samples[None, :].to(tl.int64) * width
    for first in range(4 * split * share, tl.minimum(4 * (split + 1) * share, width), 4 * BLOCK):
        columns = first + tl.arange(0, 4 * BLOCK)
        inside = (features[:, None] < out_features) & (columns[None, :] < width)
        left = tl.load(at_integers + columns[None, :], mask=inside, other=0)
        known = (samples[None, :] < rows) & (columns[:, None] < width)
        right = tl.load(at_x + columns[:, None], mask=known, other=0.0)
        total = tl.dot(left.to(right.dtype), right, total, input_precision=PRECISION)
    _store(total, book, offsets, bias, y, features, samples, split, rows, out_features, HAS_BIAS, PARTIAL)


def pack_six_bits(integers: Tensor) -> Tensor:
    """Return `integers`, int8 (out, 4*S) in -32 ... 31, as three planes of bytes: uint8 (out, 3*S)."""
    a, b, c, d = (integers.to(torch.int16) + 32).to(torch.uint8).chunk(4, dim=1)
    return torch.cat([a | (d & 3) << 6, b | (d >> 2 & 3) << 6, c | d >> 4 << 6], dim=1)


def lattice_product(
    x: Tensor, held: Tensor, codebook: Tensor, bias: Tensor | None, *, processors: int, precision: str
) -> Tensor:
    """Return X @ W.T + bias, (rows, out), in the dtype of x.

    Args:
        x: float16, bfloat16 or float32 (rows, in).
        held: the weight, uint8 (out, 3*S) as of `pack_six_bits`, or its integers, int8 (out, 4*S).
        codebook: see `bhk.kernels.resident.FIELDS`; centred.
        bias: floating (out,), or None.
        processors: multiprocessors of the GPU.
        precision: of float32 products, "ieee" or "tf32".
    """
    (rows, in_features), out_features = x.shape, len(held)
    kernel, parts = (_six_bit_kernel, 3) if held.dtype == torch.uint8 else (_eight_bit_kernel, 4)
    quarter = held.shape[1] // parts
    sheared = x.new_empty(rows, 4 * quarter)
    offsets = x.new_empty(rows, dtype=torch.float32)
    block = min(triton.next_power_of_2(2 * quarter), BLOCK_PAIRS)
    _shear_kernel[(rows,)](x, codebook, sheared, offsets, in_features, quarter, BLOCK=block, num_warps=8)
    block_rows = min(max(16, triton.next_power_of_2(rows)), MAX_ROWS)
    block = 64 if x.element_size() == 2 else 32
    grid = triton.cdiv(out_features, BLOCK_OUT), triton.cdiv(rows, block_rows)
    splits = _splits(quarter, block, processors // (grid[0] * grid[1]))
    share = triton.cdiv(triton.cdiv(quarter, splits), block) * block
    y = x.new_empty(rows, out_features)
    target = y if splits == 1 else x.new_empty(splits, rows, out_features, dtype=torch.float32)
    kernel[(grid[0], splits, grid[1])](
        sheared, held, codebook, offsets, bias, target, rows, out_features, quarter, share,
        HAS_BIAS=bias is not None, PARTIAL=splits > 1, PRECISION=precision, BLOCK_OUT=BLOCK_OUT,
        BLOCK_ROWS=block_rows, BLOCK=block, num_warps=8 if block_rows == MAX_ROWS else 4, num_stages=3,
    )  # fmt: skip
    if splits > 1:
        sum_parts(target, y)
    return y


def _splits(quarter: int, block: int, share_of_gpu: int) -> int:
    """Return the number of shares of the input: enough to fill the GPU, and each at least two steps of the loop."""
    return min(triton.next_power_of_2(max(1, WAVES * share_of_gpu)), max(1, quarter // (2 * block)), 16)


class _LatticeLinear(nn.Module):
    """A linear layer whose weight is `layout` of its integers, int8 (out, 4*S).

    Args:
        codebook: of the weight (out, in); centred, of at most 64 windings, without shells.
        codes: of its pairs, row by row.
        bias: (out,), or None.
    """

    layout: Callable[[Tensor], Tensor]

    def __init__(
        self, codebook: Codebook, codes: Codes, out_features: int, in_features: int, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        if codebook.lattice != "centred" or codebook.shells or codebook.windings > MAX_WINDINGS:
            raise ValueError(f"not a centred lattice of at most {MAX_WINDINGS} windings without shells: {codebook}")
        resident = make_resident(codebook, codes, out_features, in_features)
        pairs = resident.codes.shape[1] // 2
        padded = triton.cdiv(pairs, 2 * ALIGNMENT) * 2 * ALIGNMENT
        integers = resident.codes.new_zeros(out_features, 2, padded)
        integers[:, :, :pairs] = resident.codes.view(out_features, 2, pairs)
        self.register_buffer("held", self.layout(integers.view(out_features, 2 * padded)))
        self.register_buffer("codebook", resident.codebook)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product (..., out) of x (..., in), in the dtype of x."""
        processors, precision = gpu_of(x.device).processors, float32_precision()
        rows = x.reshape(-1, x.shape[-1])
        y = lattice_product(rows, self.held, self.codebook, self.bias, processors=processors, precision=precision)
        return y.view(*x.shape[:-1], -1)


class SixBitLinear(_LatticeLinear):
    """Six bits a weight: `held` is uint8 (out, 3*S)."""

    layout = staticmethod(pack_six_bits)


class EightBitLinear(_LatticeLinear):
    """Eight bits a weight: `held` is int8 (out, 4*S)."""

    layout = staticmethod(Tensor.contiguous)
