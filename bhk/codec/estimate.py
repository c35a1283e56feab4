"""How large will this tensor be? From the order-0 entropies of the codes of a sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bhk.codec.codebook import Codes
from bhk.codec.fit import encode_published, sample, square_for
from bhk.codec.streams import CHUNK_ITEMS, packed_size

ESTIMATE_PAIRS = 1 << 14
# The Huffman stage of zstd against the order-0 entropy, measured on Gaussian and heavy-tailed weights.
ZSTD_OVERHEAD = 1.008
FRAME_BYTES = 12


def sample_tensor(tensor: Tensor) -> Tensor:
    """Return pairs drawn from `tensor`: float32 (P, 2), see `bhk.codec.fit.sample`."""
    flat = tensor.detach().reshape(-1)
    return sample(flat[: flat.numel() // 2 * 2].view(-1, 2))


def estimate(pairs: Tensor, count: int, step: float | None) -> float:
    """Estimate the stored bytes of a tensor of `count` pairs from a sample of them.

    Args:
        pairs: float32 (P, 2), P >= 1.
        step: lattice step; None with the published method.

    Returns:
        bytes; infinite where the tensor would be kept exact.
    """
    drawn = pairs[:: max(1, len(pairs) // ESTIMATE_PAIRS)]
    if step is None:
        coded = encode_published(drawn)
        return math.inf if coded is None else packed_size(count, _bits(coded[0].code_count))
    codebook = square_for(drawn, step)
    if not codebook.is_valid:
        return math.inf
    codes, outside = codebook.encode_square(drawn)
    share = len(outside) / len(drawn)
    bits = _plane_bits(codes, codebook.windings) * ZSTD_OVERHEAD
    if 0 < share < 1:
        bits += -share * math.log2(share) - (1 - share) * math.log2(1 - share) + share
    frames = 2 * FRAME_BYTES * math.ceil(count / CHUNK_ITEMS)
    return min(count * bits / 8 + frames, packed_size(count, _bits(codebook.code_count)))


def _bits(code_count: int) -> int:
    return max(1, (code_count - 1).bit_length())


def _plane_bits(codes: Codes, windings: int) -> float:
    """Return the entropy of winding and phase together, in bits a pair."""
    total = 0.0
    for plane in (codes.winding, codes.phase):
        histogram = torch.bincount(plane, minlength=windings).double()
        share = histogram[histogram > 0] / len(codes)
        # Miller and Madow's correction for the bias of a sample.
        total += float(-(share * share.log2()).sum()) + (len(share) - 1) / (2 * len(codes) * math.log(2))
    return total
