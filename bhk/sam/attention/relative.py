"""Attention with relative positions: the image encoder of SAM."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.kernels.attention import relative_attention
from bhk.nn.hyperlinear import Compute

# Tokens that a CPU takes through the linear layers at a time: their hidden features, 12 MiB in SAM-B, take the memory of those
# before. Measured on Sapphire Rapids, a block of SAM-B: 120 ms, 149 for all 4,096 at once, 148 for 256 at a time.
TOKENS = 1024


class RelativeAttention(nn.Module):
    """Attention among the tokens of a grid. A query's score for a key depends on how far up and left the key is.

    Attributes:
        num_heads: number of heads.
        scale: factor of queries.
        compute: "exact", or "int8", which lets a CPU round queries, keys and values to bfloat16 where that is faster.
        rel_pos_h, rel_pos_w: parameters (distances, head): what queries are multiplied with to get what a distance adds to the
            score. Tables for a grid of another size are interpolated.
        qkv: linear layer to queries, keys and values, side by side.
        proj: linear layer behind the heads.
    """

    parts: ClassVar = frozenset({"rel_pos_h", "rel_pos_w", "qkv", "proj"})
    heads_name: ClassVar = "num_heads"  # in the package's module

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = getattr(original, self.heads_name)
        self.scale: float = original.scale
        self.compute: Compute = "exact"
        self.rel_pos_h: Tensor = original.rel_pos_h
        self.rel_pos_w: Tensor = original.rel_pos_w
        self.qkv: nn.Module = original.qkv
        self.proj: nn.Module = original.proj

    def forward(self, x: Tensor, window: int = 0) -> Tensor:
        """Return what tokens gather, (batch, height, width, channels), for tokens x of that shape.

        Args:
            window: the side of the windows that tokens see; 0 lets them see all. What windows cover beyond the grid counts
                as tokens of zeros.
        """
        _, height, width, channels = x.shape
        tall, wide = (window, window) if window else (height, width)
        padding = None
        if height % tall or width % wide:
            padding = self._heads(self.qkv(x.new_zeros(1, 1, 1, channels)))[0, 0, 0]
        tables = _from_each_to_each(self.rel_pos_h, tall), _from_each_to_each(self.rel_pos_w, wide)
        y = relative_attention(self._heads(self.qkv(x)), padding, *tables, self.scale, self.compute)
        out: Tensor = self.proj(y.flatten(3))
        return out

    def _heads(self, qkv: Tensor) -> Tensor:
        """Return qkv (..., 3 * heads * head) as (..., 3, heads, head)."""
        return qkv.reshape(*qkv.shape[:-1], 3, self.num_heads, qkv.shape[-1] // (3 * self.num_heads))


class RelativeBlock(nn.Module):
    """A block of the image encoder: attention, in windows or among all tokens, and two linear layers.

    The packages copy tokens to windows and back, with the padding of windows beyond the edge as tokens of their own, and keep
    tokens channels first in memory, where each step takes about three times as long. They also write the hidden features of
    all tokens to memory; here a CPU computes them for some tokens at a time.

    Attributes:
        window_size: the side of windows, or 0.
        norm1, norm2: layer norms in front of both steps.
        attn: the attention.
        mlp: the linear layers.
    """

    parts: ClassVar = frozenset({"norm1", "attn", "norm2", "mlp"})

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.window_size: int = original.window_size
        self.norm1: nn.Module = original.norm1
        self.attn: RelativeAttention = original.attn
        self.norm2: nn.Module = original.norm2
        self.mlp: nn.Module = original.mlp

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (batch, height, width, channels) for tokens x of that shape."""
        x = x.contiguous()
        x = x + self.attn(self.norm1(x), self.window_size)
        if not x.is_cpu:
            return self._perceptron(x)
        tokens = x.flatten(0, 2)[None, None]  # four dimensions, which adapters may count on
        return torch.cat([self._perceptron(part) for part in torch.split(tokens, TOKENS, 2)], 2).view(x.shape)

    def _perceptron(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class HuggingFaceRelativeAttention(RelativeAttention):
    """The same with the arguments and results of transformers."""

    heads_name: ClassVar = "num_attention_heads"

    def forward(self, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, None]:  # type: ignore[override]
        """Return what tokens gather, and None for their weights."""
        return super().forward(hidden_states), None


def _from_each_to_each(table: Tensor, size: int) -> Tensor:
    """Return the row of a table of distances for each pair of `size` places: (size from, size to, head)."""
    distances = 2 * size - 1
    if len(table) != distances:
        table = functional.interpolate(table.t().unsqueeze(0), size=distances, mode="linear")[0].t()
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place + size - 1]
