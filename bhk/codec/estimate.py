"""Estimate the size of a coded tensor from a sample."""

from __future__ import annotations

import math

from torch import Tensor

from bhk.codec.fit import encode_published, encode_to_step
from bhk.codec.tensor import code_streams


def estimate(pairs: Tensor, count: int, step: float | None) -> float:
    """Estimate the stored bytes of a tensor of `count` pairs.

    Args:
        pairs: sampled pairs, float32 (P, 2), P >= 1.
        count: number of pairs of the whole tensor.
        step: lattice step in weight units; None for the published method.

    Returns:
        bytes; infinite if the tensor would be kept exact.
    """
    coded = encode_published(pairs) if step is None else encode_to_step(pairs, step)
    if coded is None:
        return math.inf
    streams = code_streams(*coded, packed=step is None)
    return sum(stream.stored for stream in streams) * count / len(pairs)
