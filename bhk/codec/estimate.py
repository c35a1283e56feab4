"""How large will this tensor be? From the compressed codes of a sample."""

from __future__ import annotations

import math

from torch import Tensor

from bhk.codec.fit import encode_published, encode_to_step
from bhk.codec.tensor import code_streams


def estimate(pairs: Tensor, count: int, step: float | None) -> float:
    """Estimate the stored bytes of a tensor of `count` pairs from a sample of them.

    Args:
        pairs: float32 (P, 2), P >= 1.
        step: lattice step; None with the published method.

    Returns:
        bytes; infinite where the tensor would be kept exact.
    """
    coded = encode_published(pairs) if step is None else encode_to_step(pairs, step)
    if coded is None:
        return math.inf
    streams = code_streams(*coded, packed=step is None)
    return sum(stream.stored for stream in streams) * count / len(pairs)
