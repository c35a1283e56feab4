"""How large will this tensor be? From the compressed codes of a sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bhk.codec.fit import encode_published, square_for
from bhk.codec.streams import compress, packed_size


def estimate(pairs: Tensor, count: int, step: float | None) -> float:
    """Estimate the stored bytes of a tensor of `count` pairs from a sample of them.

    Args:
        pairs: float32 (P, 2), P >= 1.
        step: lattice step; None with the published method.

    Returns:
        bytes; infinite where the tensor would be kept exact.
    """
    if step is None:
        coded = encode_published(pairs)
        if coded is None:
            return math.inf
        codebook, codes = coded
        return packed_size(count, max(1, int(codes.scalars(codebook.windings).max()).bit_length()))
    codebook = square_for(pairs, step)
    if not codebook.is_valid:
        return math.inf
    codes, outside = codebook.encode_square(pairs)
    planes = [codes.winding, codes.phase]
    if outside.numel():
        planes.append(torch.zeros_like(codes.winding).index_fill_(0, outside, 1))
    compressed = sum(len(compress(plane.cpu().numpy())) for plane in planes)
    bits = max(1, (codebook.code_count - 1).bit_length())
    return min(compressed * count / len(pairs), packed_size(count, bits))
