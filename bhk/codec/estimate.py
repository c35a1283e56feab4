"""Estimate the size of a coded tensor from a sample."""

from __future__ import annotations

import math

from torch import Tensor

from bhk.codec.fit import encode_published, encode_to_step
from bhk.codec.tensor import code_streams


def estimate(pairs: Tensor, count: int, step: float | None) -> tuple[float, int]:
    """Estimate the stored bytes of a tensor of `count` pairs, and the number of its streams.

    Args:
        pairs: sampled pairs, float32 (P, 2), P >= 1.
        count: number of pairs of the whole tensor.
        step: lattice step in weight units; None for the published method.

    Returns:
        bytes and streams; infinitely many bytes in one stream if the tensor would be kept exact.
    """
    coded = encode_published(pairs) if step is None else encode_to_step(pairs, step)
    if coded is None:
        return math.inf, 1
    streams = code_streams(*coded, packed=step is None)
    return sum(stream.stored for stream in streams) * count / len(pairs), len(streams)
