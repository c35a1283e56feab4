"""Tensors as pairs of weights, and the error between a tensor and its decoded codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bhk.codec.codebook import BLOCK_PAIRS, Codebook, Codes

Pairing = Literal["rows", "flat"]


@dataclass(frozen=True)
class Shape:
    """How a tensor of shape `dims` falls into pairs.

    With pairing "rows" the last dimension is paired row by row (linear weights (out, in): along `in`), with "flat" the
    whole tensor in row-major order is one row. A row of odd length ends with a pair whose second weight is padding.
    """

    dims: tuple[int, ...]
    pairing: Pairing

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.dims)

    @property
    def row(self) -> int:
        """Weights in a row."""
        return self.dims[-1] if self.pairing == "rows" else self.numel

    @property
    def row_pairs(self) -> int:
        """Pairs in a row."""
        return (self.row + 1) // 2

    @property
    def rows(self) -> int:
        """Number of rows."""
        return math.prod(self.dims[:-1]) if self.pairing == "rows" else 1

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.rows * self.row_pairs

    @property
    def padded(self) -> bool:
        """Whether rows end with a padding weight."""
        return self.row % 2 == 1

    def split(self, tensor: Tensor) -> Tensor:
        """Return the pairs of `tensor` as (count, 2) in its dtype: a view where no padding is needed.

        The padding weight is the mean of the second weights, as in the published method (0 when there are none).
        """
        if not self.padded:
            return tensor.reshape(self.count, 2)
        rows = tensor.reshape(self.rows, self.row)
        second = rows[:, 1::2]
        pad = second.to(torch.float32).mean().to(tensor.dtype) if second.numel() else tensor.new_zeros(())
        return torch.cat([rows, pad.expand(self.rows, 1)], dim=1).view(self.count, 2)

    def join(self, pairs: Tensor) -> Tensor:
        """Return the tensor whose pairs are `pairs` (count, 2); shares their memory where there is no padding."""
        if self.padded:
            pairs = pairs.reshape(self.rows, 2 * self.row_pairs)[:, : self.row]
        return pairs.reshape(self.dims)

    def clear_padding(self, pairs: Tensor, start: int) -> None:
        """Zero the padding weights in `pairs`, the pairs from index `start` on."""
        if self.padded:
            pairs[(-start - 1) % self.row_pairs :: self.row_pairs, 1] = 0


@dataclass(frozen=True)
class Error:
    """Difference between a tensor and its decoded codes in the tensor's dtype, padding left out.

    Attributes:
        mean_abs, max_abs: in weight units.
        snr_db: 10*log10(sum w^2 / sum (w - w')^2); infinite without any error.
    """

    mean_abs: float
    max_abs: float
    snr_db: float

    @property
    def is_finite(self) -> bool:
        """False when the tensor held, or its codes decode to, NaN or infinity."""
        return math.isfinite(self.mean_abs)


def measure(pairs: Tensor, shape: Shape, codebook: Codebook, codes: Codes) -> Error:
    """Decode `codes` block by block and compare with `pairs`, a floating tensor (shape.count, 2)."""
    # The squares of very large or very small weights leave the range of float32.
    extreme = pairs.dtype == torch.float64 or not 2.0**-40 < codebook.side < 2.0**40
    work = torch.float64 if extreme else torch.float32
    decoded = torch.empty(min(shape.count, BLOCK_PAIRS), 2, dtype=pairs.dtype, device=pairs.device)
    widened = decoded if pairs.dtype == work else torch.empty_like(decoded, dtype=work)
    scratch = codebook.scratch(codes)
    absolute = square = signal = largest = 0.0
    for block in codebook.blocks(shape.count):
        original = pairs[block].to(work)
        codebook.decode_block(codes, block, decoded[: len(original)], scratch)
        difference = torch.sub(decoded[: len(original)], original, out=widened[: len(original)])
        shape.clear_padding(difference, block.start)
        square += _sum_of_squares(difference)
        absolute += float(difference.abs_().sum())
        highest = float(difference.amax())
        largest = highest if math.isnan(highest) else max(largest, highest)
        signal += _sum_of_squares(original)
    return Error(absolute / shape.numel, largest, decibels(signal, square))


def _sum_of_squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) ** 2


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two powers in dB; infinite without noise."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf
