"""Attention with relative positions: the image encoder of SAM."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.kernels.attention import relative_attention


class RelativeAttention(nn.Module):
    """Attention among the tokens of a grid. A query's score for a key depends on how far up and left the key is.

    Attributes:
        num_heads: number of heads.
        scale: factor of queries.
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
        self.rel_pos_h: Tensor = original.rel_pos_h
        self.rel_pos_w: Tensor = original.rel_pos_w
        self.qkv: nn.Module = original.qkv
        self.proj: nn.Module = original.proj

    def forward(self, x: Tensor) -> Tensor:
        """Return what tokens gather, (batch, height, width, channels), for tokens x of that shape."""
        batch, height, width, _ = x.shape
        grid = self.qkv(x).reshape(batch, height, width, 3, self.num_heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = grid.flatten(3, 4).unbind(0)  # (batch, heads, tokens, head)
        heights = torch.einsum("bnhwc,hkc->bnhwk", grid[0], _from_each_to_each(self.rel_pos_h, height)).flatten(2, 3)
        widths = torch.einsum("bnhwc,wkc->bnhwk", grid[0], _from_each_to_each(self.rel_pos_w, width)).flatten(2, 3)
        y = relative_attention(q, k, v, heights, widths, self.scale)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, height, width, -1))
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
