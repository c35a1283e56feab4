"""What is measured beside HyperLinear on a card: layers of other people, the published scheme, and 6 bits beside 8."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bhk.codec.codebook import Codebook
from bhk.codec.tensor import encode
from tools.bench.layers.peers import MAKERS, NOT_CAPTURABLE, peers
from tools.bench.layers.published import PublishedLinear
from tools.bench.layers.six_bits import MAX_WINDINGS, EightBitLinear, SixBitLinear


def others_of(dense: nn.Linear, x: Tensor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return layers by name that stand for `dense`, and float64 weights of those that code it otherwise.

    Who is left out is printed, and why.
    """
    found = peers(dense, x, [name for name in MAKERS if name not in NOT_CAPTURABLE])
    for name, reason in found.left_out.items():
        print(f"left out: {name}: {reason}", flush=True)
    shape, weight = (dense.out_features, dense.in_features), dense.weight.float()
    published = encode(weight.cpu(), "birkhoff")
    assert published.codebook is not None
    assert published.planes is not None
    book = Codebook((0.0, 0.0), 2.0 * float(weight.abs().max()), MAX_WINDINGS, 0, 0.0, True)
    codes, _ = book.encode_square(weight.reshape(-1, 2))
    layers = {
        "published scheme": PublishedLinear(published.codebook, published.planes, *shape, dense.bias),
        "6 bits": SixBitLinear(book, codes, *shape, dense.bias),
        "8 bits": EightBitLinear(book, codes, *shape, dense.bias),
    }
    lattice = book.decode(codes).view(shape).double()
    weights = {"published scheme": published.decode().to(x.device, torch.float64), "6 bits": lattice, "8 bits": lattice}
    return found.ready | {name: layer.to(x.device) for name, layer in layers.items()}, weights
