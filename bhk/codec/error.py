"""The error between a tensor and its decoded codes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bhk.codec.codebook import BLOCK_PAIRS, Codebook, Codes
from bhk.codec.shape import Shape


@dataclass(frozen=True)
class Error:
    """Difference between a tensor and its decoded codes in the tensor's dtype, without padding.

    Attributes:
        mean_abs, max_abs: mean and largest absolute error, in weight units.
        snr_db: 10 log10(sum w^2 / sum (w - w')^2); infinite without any error.
    """

    mean_abs: float
    max_abs: float
    snr_db: float

    @property
    def is_finite(self) -> bool:
        """Whether neither the tensor nor its decoded codes hold NaN or infinity."""
        return math.isfinite(self.mean_abs)


def measure(pairs: Tensor, shape: Shape, codebook: Codebook, codes: Codes) -> Error:
    """Decode `codes` block by block and compare them with `pairs`, a floating-point tensor (shape.count, 2)."""
    # The squares of very large or very small weights leave the range of float32.
    reach = max(map(abs, (*codebook.centre, codebook.side, codebook.shells * codebook.spacing)))
    extreme = pairs.dtype == torch.float64 or codebook.side < 2.0**-40 or reach > 2.0**40
    work = torch.float64 if extreme else torch.float32
    decoded = torch.empty(min(shape.count, BLOCK_PAIRS), 2, dtype=pairs.dtype, device=pairs.device)
    widened = decoded if pairs.dtype == work else torch.empty_like(decoded, dtype=work)
    scratch = codebook.scratch(codes)
    absolute = square = signal = largest = 0.0
    for block in codebook.blocks(shape.count):
        original = pairs[block].to(work, copy=shape.padded)
        codebook.decode_block(codes, block, decoded[: len(original)], scratch)
        difference = torch.sub(decoded[: len(original)], original, out=widened[: len(original)])
        for values in (original, difference):
            shape.clear_padding(values, block.start)
        square += _sum_of_squares(difference)
        absolute += float(difference.abs_().sum())
        highest = float(difference.amax())
        largest = highest if math.isnan(highest) else max(largest, highest)
        signal += _sum_of_squares(original)
    return Error(absolute / shape.numel, largest, decibels(signal, square))


def _sum_of_squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values)) ** 2


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two powers in dB: infinite without noise."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf
