"""The difference of two tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bhk.codec.dtypes import widened
from bhk.codec.error import decibels
from bhk.codec.tensor import tensor_bytes

BLOCK = 1 << 22


@dataclass(frozen=True)
class Difference:
    """The difference of a tensor from a reference of the same shape and dtype.

    Attributes:
        equal: whether they are equal bit for bit.
        max_abs: largest absolute difference; NaN if they differ and one of them holds NaN or infinity.
        snr_db: 10 log10(signal / noise); infinite without difference.
        signal, noise: sum of reference^2, and of difference^2.
    """

    equal: bool
    max_abs: float
    snr_db: float
    signal: float
    noise: float


def compare(reference: Tensor, other: Tensor) -> Difference:
    """Compare two tensors of the same shape and dtype block by block, in float64."""
    a, b = reference.detach().reshape(-1), other.detach().reshape(-1)
    largest = signal = noise = 0.0
    equal = True
    for start in range(0, a.numel(), BLOCK):
        x, y = a[start : start + BLOCK], b[start : start + BLOCK]
        if (tensor_bytes(x) == tensor_bytes(y)).all():
            signal += _power(x)
            continue
        equal = False
        difference = widened(x) - widened(y)
        peak = float(difference.abs().max())
        largest = peak if math.isnan(peak) else max(largest, peak)
        signal += _power(x)
        noise += _power(difference)
    finite = math.isfinite(signal) and math.isfinite(noise)
    return Difference(equal, largest, decibels(signal, noise) if finite else math.nan, signal, noise)


def _power(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(widened(values))) ** 2
