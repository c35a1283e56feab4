"""The operators in plain torch: they define what the operators compute, and run on a CPU.

With u = x_even and v = x_odd + x_even/n, a row x of activations times a lattice weight is

    x @ W.T = step * [u | v] @ [Q | R].T + offset_even * sum(x_even) + offset_odd * sum(x_odd)

Shearing the activations costs rows * in operations, decoding the weight in * out. So few rows use the identity, and many rows
the decoded weight. In integer mode [u | v] is quantised row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bhk.codec.codebook import BLOCK_PAIRS, Codebook

from .int8_cpu import make_product, quantise_
from .resident import MAX_FAR, MAX_INTEGER_WIDTH, codebook_of, sheared, step_and_offsets

# Weights decoded at a time: bounds the scratch memory of a product to 16 MiB in float32, or one row.
SCRATCH_WEIGHTS = 1 << 22
# From this in * out / (in + out) on, an integer product saves more time than shearing, quantising and scaling take (on Zen 3).
INTEGER_SIZE = 224
# Rows of activations quantised at a time, few enough to be in the cache when they are multiplied.
QUANTISED_ROWS = 1024


def decode(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Return the dense weight (out, in_features) in `dtype`, rounded from the float32 weights that the format defines.

    `resident.Resident` describes the operands.
    """
    weight = torch.empty(len(codes), in_features, dtype=dtype, device=codes.device)
    _decode_rows(codes, codebook_of(codebook), outliers, slice(0, len(codes)), weight)
    return weight


def hyper_linear(
    x: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, far: Tensor, bias: Tensor | None, compute: str
) -> Tensor:
    """Return x @ W.T + bias for activations x (rows, in), in their dtype.

    `resident.Resident` describes the operands. `compute` is "exact" or "int8". Few rows of float32, small weights, scalar
    weights, and weights with many far outliers are computed exactly in both.
    """
    is_lattice, book = codes.dtype == torch.int8, codebook_of(codebook)
    is_large = x.shape[1] * len(codes) >= INTEGER_SIZE * (x.shape[1] + len(codes))
    if is_lattice and x.dtype == torch.float32 and 2 * len(x) <= len(codes):
        return _few_rows(x, codes, book, outliers, bias)
    if is_lattice and is_large and compute == "int8" and len(far) <= MAX_FAR and codes.shape[1] <= MAX_INTEGER_WIDTH:
        return _integer(x, codes, book, outliers[far], bias)
    return _many_rows(x, codes, book, outliers, bias)


def _many_rows(x: Tensor, codes: Tensor, book: Codebook, outliers: Tensor, bias: Tensor | None) -> Tensor:
    out, features = len(codes), x.shape[1]
    blocks = list(_row_blocks(out, features, SCRATCH_WEIGHTS))
    weight = x.new_empty(blocks[0].stop, features)
    if len(blocks) == 1:  # bit for bit the result of nn.Linear
        _decode_rows(codes, book, outliers, blocks[0], weight)
        return F.linear(x, weight, bias)
    y = x.new_empty(len(x), out)
    for rows in blocks:
        part = weight[: rows.stop - rows.start]
        _decode_rows(codes, book, outliers, rows, part)
        if bias is None:
            torch.mm(x, part.t(), out=y[:, rows])
        else:  # adding the bias later would round twice
            torch.addmm(bias[rows], x, part.t(), out=y[:, rows])
    return y


def _few_rows(x: Tensor, codes: Tensor, book: Codebook, outliers: Tensor, bias: Tensor | None) -> Tensor:
    step, *_ = step_and_offsets(book)
    pairs = codes.shape[1] // 2
    planes = _shear_into(x.new_empty(len(x), 2, pairs), x, book.windings)
    activations, offset = planes.flatten(1), _offset(planes, book)
    parts = []
    for rows in _row_blocks(len(codes), 2 * pairs, SCRATCH_WEIGHTS):
        integers = codes[rows].to(x.dtype)
        if len(outliers):
            index, weights = _outliers_of(outliers, rows, pairs, len(codes))
            integers.view(-1, 2, pairs)[index // pairs, :, index % pairs] = sheared(book, weights)
        parts.append(torch.addmm(offset, activations, integers.t(), alpha=step))
    y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return y if bias is None else y.add_(bias)


def _integer(x: Tensor, codes: Tensor, book: Codebook, far: Tensor, bias: Tensor | None) -> Tensor:
    step, *_ = step_and_offsets(book)
    pairs = codes.shape[1] // 2
    multiply, levels = make_product(codes)
    index, weights = _outliers_of(far, slice(0, len(codes)), pairs, len(codes))
    row, column = index // pairs, index % pairs
    missing = sheared(book, weights) - codes.view(-1, 2, pairs)[row, :, column]  # (far, 2)
    y = torch.empty(len(x), len(codes), dtype=torch.float32, device=x.device)
    # Reused for all blocks: fresh memory from the system costs more than the work on it.
    scratch = torch.empty(min(len(x), QUANTISED_ROWS), 2, pairs, dtype=torch.float32, device=x.device)
    for at in range(0, len(x), QUANTISED_ROWS):
        block = y[at : at + QUANTISED_ROWS]
        activations = _shear_into(scratch[: len(block)], x[at : at + QUANTISED_ROWS].float(), book.windings)
        offset, part = _offset(activations, book), activations[:, :, column]
        integers, scale = quantise_(activations.flatten(1), levels)
        torch.addcmul(offset, multiply(integers), scale.mul_(step), out=block)
        if len(far):
            block.index_add_(1, row, part[:, 0] * missing[:, 0] + part[:, 1] * missing[:, 1], alpha=step)
        if bias is not None:
            block.add_(bias)
    return y.to(x.dtype)


def _shear_into(activations: Tensor, x: Tensor, windings: int) -> Tensor:
    """Write u and v of x (rows, in) to `activations` (rows, 2, h) and return it."""
    padded = F.pad(x, (0, 1)) if x.shape[1] % 2 else x
    pairs = padded.reshape(len(x), padded.shape[1] // 2, 2)
    activations[:, 0] = pairs[:, :, 0]
    torch.add(pairs[:, :, 1], pairs[:, :, 0], alpha=1 / windings, out=activations[:, 1])
    return activations


def _offset(activations: Tensor, book: Codebook) -> Tensor:
    """Return offset_even * sum(x_even) + offset_odd * sum(x_odd) from u and v (rows, 2, h): (rows, 1)."""
    return torch.mm(activations.sum(2), _offset_vector(book, activations.device))


@lru_cache(maxsize=4096)
def _offset_vector(book: Codebook, device: torch.device) -> Tensor:
    """Return the factors of sum(u) and sum(v) in the offset: float32 (2, 1)."""
    _, even, odd = step_and_offsets(book)
    return torch.tensor([[even - odd / book.windings], [odd]], dtype=torch.float32, device=device)


def _decode_rows(codes: Tensor, book: Codebook, outliers: Tensor, rows: slice, weight: Tensor) -> None:
    """Decode `rows` of the codes into `weight` (rows, in)."""
    if not weight.numel():
        return
    pairs = (weight.shape[1] + 1) // 2
    is_lattice = codes.dtype == torch.int8
    dense = weight if weight.shape[1] == 2 * pairs else weight.new_empty(len(weight), 2 * pairs)
    for block in _row_blocks(len(weight), pairs, BLOCK_PAIRS):
        part = codes[rows.start + block.start : rows.start + block.stop]
        winding, phase, shell = _planes(part, pairs, book) if is_lattice else _split(part, book)
        book.place_(winding, phase, shell, dense[block].view(-1, 2))
    if len(outliers):
        index, weights = _outliers_of(outliers, rows, pairs, len(codes))
        dense.view(-1, 2)[index] = weights.to(dense.dtype)
    if dense is not weight:
        weight.copy_(dense[:, : weight.shape[1]])


def _planes(codes: Tensor, pairs: int, book: Codebook) -> tuple[Tensor, Tensor, None]:
    """Return winding and phase of lattice codes (rows, 2*h): float32 (P,) each."""
    planes = torch.empty(2, len(codes), pairs, dtype=torch.float32, device=codes.device)
    planes.copy_(codes.view(-1, 2, pairs).transpose(0, 1)).add_(book.windings // 2)
    return planes[0].view(-1), planes[1].view(-1), None


def _split(codes: Tensor, book: Codebook) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return winding and phase, float32 (P,), and shell of scalar codes (rows, h)."""
    scalars = codes.view(-1).to(torch.int32)
    if codes.dtype == torch.int16:
        scalars &= 0xFFFF
    steps = book.trajectory.steps
    step = scalars % steps
    shell = scalars // steps if book.shells else None  # not in place, because `scalars` may be the codes themselves
    return (step // book.windings).float(), (step % book.windings).float(), shell


def _outliers_of(outliers: Tensor, rows: slice, pairs: int, out_features: int) -> tuple[Tensor, Tensor]:
    """Return the outliers in `rows`: the places of their pairs, counted from the first row, and float32 weights (E, 2)."""
    index, weights = outliers[:, 0], outliers.view(torch.float32)[:, 1:]
    if rows == slice(0, out_features):
        return index, weights
    index = index - rows.start * pairs
    inside = (index >= 0) & (index < (rows.stop - rows.start) * pairs)
    return index[inside], weights[inside]


def _row_blocks(rows: int, width: int, limit: int) -> Iterator[slice]:
    """Cut `rows` rows of `width` items into slices of at most `limit` items, but at least one row."""
    block = max(1, limit // max(width, 1))
    return (slice(at, min(at + block, rows)) for at in range(0, max(rows, 1), block))
