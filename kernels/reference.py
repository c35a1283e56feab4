"""The operators in plain torch: they define what the operators compute, and run on a CPU.

With u = x_even and v = x_odd + x_even/n, a row x of activations times a lattice weight is

    x @ W.T = step * [u | v] @ [Q | R].T + offset_even * sum(x_even) + offset_odd * sum(x_odd)

Shearing the activations costs rows * in operations, decoding the weight in * out. So few rows use the identity, and many rows
the decoded weight, or the identity with [u | v] rounded to bytes row by row: one byte in integer mode, three in exact mode
where that is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bhk.codec.codebook import BLOCK_PAIRS, Codebook

from .onednn import THREE_BYTES, Rounding, has_integer_unit, has_onednn_linear, onednn_linear, packed, quantise_
from .processor import is_faster
from .resident import MAX_FAR, MAX_INTEGER_WIDTH, codebook_of, sheared, step_and_offsets

# Weights decoded at a time: bounds the scratch memory of a product to 16 MiB in float32, or one row.
SCRATCH_WEIGHTS = 1 << 22
# From this in * out / (in + out) on, an integer product saves more time than shearing, quantising and scaling take (on Zen 3).
INTEGER_SIZE = 224
# Rows from which on bytes are multiplied. Measured on one core of Sapphire Rapids, 896 to 2,304 outputs: 8 rows take as long
# in both ways, 16 rows take 0.8 to 0.95 of the time in three bytes and 0.45 to 0.6 in one, 64 rows 0.65 and 0.4.
INTEGER_ROWS = 16
# Rows from which on oneDNN packs a decoded weight for a product.
PACKED_ROWS = 64
# Rows multiplied at a time, and items of activations rounded at a time: 4 MiB. Fewer would stay in the cache of one core, but
# each step waits for all cores: with one of two busy, a layer took 4.6 s with 2^18 items and 0.5 s with 2^20.
MULTIPLIED_ROWS, ROUNDED = 1024, 1 << 20


def decode(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Return the dense weight (out, in_features) in `dtype`, rounded from the float32 weights that the format defines.

    `resident.Resident` describes the operands.
    """
    weight = torch.empty(len(codes), in_features, dtype=dtype, device=codes.device)
    _decode_rows(codes, codebook_of(codebook), outliers, slice(0, len(codes)), weight)
    return weight


def chosen_rows(rows: Tensor, codes: Tensor, outliers: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Return the codes and the outliers of a weight that consists of chosen rows of another one, with `pairs` pairs a row.

    Args:
        rows: integers (R,); a row may be chosen several times.
        codes, outliers: of the other weight, see `resident.Resident`.
    """
    chosen = codes.index_select(0, rows)
    if not len(outliers):
        return chosen, outliers
    index, first = outliers[:, 0].contiguous(), rows.to(outliers.dtype) * pairs
    start = torch.searchsorted(index, first)
    count = torch.searchsorted(index, first + pairs) - start
    which = torch.repeat_interleave(count)  # the place in `rows` of each outlier that is needed
    within = torch.arange(len(which), device=which.device) - (count.cumsum(0) - count)[which]
    theirs = outliers[start[which] + within]
    theirs[:, 0] += which.to(outliers.dtype) * pairs - first[which]
    return chosen, theirs


def hyper_linear(
    x: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, far: Tensor, bias: Tensor | None, compute: str
) -> Tensor:
    """Return x @ W.T + bias for activations x (rows, in), in their dtype.

    `resident.Resident` describes the operands. `compute` is "exact" or "int8". Few rows, small weights, scalar weights, and
    weights with many far outliers are computed exactly in both.
    """
    is_lattice, book, is_float32 = codes.dtype == torch.int8, codebook_of(codebook), x.dtype == torch.float32
    is_large = x.shape[1] * len(codes) >= INTEGER_SIZE * (x.shape[1] + len(codes))
    if is_lattice and is_large and len(x) >= INTEGER_ROWS and codes.shape[1] <= MAX_INTEGER_WIDTH:
        if compute == "int8" and len(far) <= MAX_FAR:
            return _integer(x, codes, book, outliers[far], bias)
        if is_float32 and len(outliers) <= MAX_FAR and codes.is_cpu and _integers_are_faster():
            return _integer(x, codes, book, outliers, bias, THREE_BYTES)
    if is_lattice and is_float32 and 2 * len(x) <= len(codes):
        return _few_rows(x, codes, book, outliers, bias)
    return _many_rows(x, codes, book, outliers, bias)


def _integers_are_faster() -> bool:
    """Return whether float32 products by integers are faster on this machine than those by a decoded weight."""
    return has_integer_unit() and is_faster("bytes", "decoded", _typical_products)


def _typical_products() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the product of activations (1024, 768) and a weight (1536, 768) by integers, and by a decoded weight."""
    generator = torch.Generator("cpu").manual_seed(0)
    codes = torch.randint(-32, 32, (1536, 768), dtype=torch.int8, device="cpu", generator=generator)
    x = torch.randn(1024, 768, dtype=torch.float32, device="cpu", generator=generator)
    none = torch.empty(0, 3, dtype=torch.int32, device="cpu")
    book = Codebook((0.0, 0.0), 1.0, 64)
    return (
        lambda: _integer(x, codes, book, none, None, THREE_BYTES),
        lambda: _many_rows(x, codes, book, none, None),
    )


def _onednn_is_faster() -> bool:
    """Return whether float32 products with a weight that oneDNN packs first are faster than those of F.linear.

    They are on processors of AMD, where F.linear takes a slow path of MKL.
    """
    return has_onednn_linear() and is_faster("onednn", "linear", _typical_linears)


def _typical_linears() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    x, weight = (torch.ones(rows, 768, dtype=torch.float32, device="cpu") for rows in (1024, 1536))
    return lambda: onednn_linear(x, weight, None), lambda: F.linear(x, weight)


def _many_rows(x: Tensor, codes: Tensor, book: Codebook, outliers: Tensor, bias: Tensor | None) -> Tensor:
    out, features = len(codes), x.shape[1]
    blocks = list(_row_blocks(out, features, SCRATCH_WEIGHTS))
    weight = x.new_empty(blocks[0].stop, features)
    can_onednn = x.dtype == torch.float32 and x.is_cpu and len(x) >= PACKED_ROWS and weight.numel() > 0
    by_onednn = can_onednn and _onednn_is_faster()
    if len(blocks) == 1:
        _decode_rows(codes, book, outliers, blocks[0], weight)
        # F.linear gives bit for bit the result of nn.Linear.
        return onednn_linear(x, weight, bias) if by_onednn else F.linear(x, weight, bias)
    y = x.new_empty(len(x), out)
    for rows in blocks:
        part = weight[: rows.stop - rows.start]
        _decode_rows(codes, book, outliers, rows, part)
        if by_onednn:
            y[:, rows] = onednn_linear(x, part, None if bias is None else bias[rows])
        elif bias is None:
            torch.mm(x, part.t(), out=y[:, rows])
        else:  # adding the bias later would round twice
            torch.addmm(bias[rows], x, part.t(), out=y[:, rows])
    return y


def _few_rows(x: Tensor, codes: Tensor, book: Codebook, outliers: Tensor, bias: Tensor | None) -> Tensor:
    step, *_ = step_and_offsets(book)
    pairs = codes.shape[1] // 2
    planes = _shear_into(x.new_empty(len(x), 2, pairs), x, book)
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


def _integer(
    x: Tensor,
    codes: Tensor,
    book: Codebook,
    outliers: Tensor,
    bias: Tensor | None,
    rounding: Rounding | None = None,
) -> Tensor:
    """Multiply integers, after rounding the sheared activations to them, by default to one byte; `outliers` are corrected."""
    step, *_ = step_and_offsets(book)
    pairs, weight = codes.shape[1] // 2, packed(codes)
    rounding = rounding or weight.rounding
    index, weights = _outliers_of(outliers, slice(0, len(codes)), pairs, len(codes))
    row, column = index // pairs, index % pairs
    missing = sheared(book, weights) - codes.view(-1, 2, pairs)[row, :, column]  # (outliers, 2)
    y = torch.empty(len(x), len(codes), dtype=torch.float32, device=x.device)
    # Reused for all blocks: fresh memory from the system costs more than the work on it.
    rows = min(len(x), MULTIPLIED_ROWS)
    integers = torch.empty(len(rounding.zeros), rows, 2 * pairs, dtype=torch.uint8, device=x.device)
    scratch = x.new_empty(min(rows, max(1, ROUNDED // (2 * pairs))), 2, pairs, dtype=torch.float32)
    unit, offset = x.new_empty(2, rows, 1, dtype=torch.float32)
    added = y.new_zeros(()) if bias is None else bias.float()
    for block in _row_blocks(len(x), 1, rows):
        part, places = y[block], x[block]
        correction = part.new_empty(len(part), len(outliers)) if len(outliers) else None
        for inner in _row_blocks(len(part), 1, len(scratch)):
            activations = _shear_into(scratch[: len(part[inner])], places[inner].float(), book)
            offset[inner] = _offset(activations, book)
            if correction is not None:
                at = activations[:, :, column]
                torch.addcmul(at[:, 0] * missing[:, 0], at[:, 1], missing[:, 1], out=correction[inner])
            unit[inner] = quantise_(activations.flatten(1), rounding, integers[:, inner])
        units = unit[: len(part)].mul_(step)
        part.copy_(offset[: len(part)].div_(units))  # where the sums of integers start
        for piece, zero, factor in zip(integers, rounding.zeros, rounding.factors, strict=True):
            weight.add_product(piece[: len(part)], part, factor, zero)
        torch.addcmul(added, part, units, out=part)
        if correction is not None:
            part.index_add_(1, row, correction, alpha=step)
    return y.to(x.dtype)


def _shear_into(activations: Tensor, x: Tensor, book: Codebook) -> Tensor:
    """Write u and v of x (rows, in) to `activations` (rows, 2, h) and return it."""
    padded = F.pad(x, (0, 1)) if x.shape[1] % 2 else x
    pairs = padded.reshape(len(x), padded.shape[1] // 2, 2)
    activations[:, 0] = pairs[:, :, 0]
    torch.add(pairs[:, :, 1], pairs[:, :, 0], alpha=book.trajectory.lean, out=activations[:, 1])
    return activations


def _offset(activations: Tensor, book: Codebook) -> Tensor:
    """Return offset_even * sum(x_even) + offset_odd * sum(x_odd) from u and v (rows, 2, h): (rows, 1)."""
    return torch.mm(activations.sum(2), _offset_vector(book, activations.device))


@lru_cache(maxsize=4096)
def _offset_vector(book: Codebook, device: torch.device) -> Tensor:
    """Return the factors of sum(u) and sum(v) in the offset: float32 (2, 1)."""
    _, even, odd = step_and_offsets(book)
    return torch.tensor([[even - odd * book.trajectory.lean], [odd]], dtype=torch.float32, device=device)


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
