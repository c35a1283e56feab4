"""Attention with a learned bias for each offset in a window: TinyViT, of MobileSAM, TinySAM and SAM-HQ-Tiny."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bhk.kernels.attention import attend


class BiasedAttention(nn.Module):
    """Attention among the tokens of a window.

    torch has no fused kernel for biases that are trained, nor on a CPU for values wider than keys, which no known model has.
    In both cases the scores of windows are in memory.

    Attributes:
        num_heads, key_dim, d, dh: number of heads, widths of a key and of a value, and of all heads' values.
        scale: factor of scores.
        attention_biases: parameter (heads, offsets): what an offset adds to the score.
        attention_bias_idxs: buffer (tokens, tokens), not in the state dict: the offset between two tokens.
        ab: buffer (heads, tokens, tokens), not in the state dict: the bias between two tokens in eval mode, else None.
        norm: layer norm in front.
        qkv: linear layer to queries, keys and values, side by side for each head.
        proj: linear layer behind the heads.
    """

    parts: ClassVar = frozenset({"attention_biases", "attention_bias_idxs", "norm", "qkv", "proj"})
    ab: Tensor | None
    attention_bias_idxs: Tensor

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = original.num_heads
        self.key_dim: int = original.key_dim
        self.d: int = original.d
        self.dh: int = original.dh
        self.scale: float = original.scale
        self.norm: nn.Module = original.norm
        self.qkv: nn.Module = original.qkv
        self.proj: nn.Module = original.proj
        self.attention_biases: Tensor = original.attention_biases
        self.register_buffer("attention_bias_idxs", original.attention_bias_idxs, persistent=False)
        self.register_buffer("ab", None if original.training else original.ab, persistent=False)

    def train(self, mode: bool = True) -> BiasedAttention:
        """Set the mode; eval mode computes `ab` from the parameter."""
        super().train(mode)
        with torch.no_grad():
            self.ab = None if mode else self._biases()
        return self

    def _biases(self) -> Tensor:
        return self.attention_biases[:, self.attention_bias_idxs]

    def forward(self, x: Tensor) -> Tensor:
        """Return what tokens gather, (windows, tokens, channels), for tokens x of that shape."""
        windows, tokens, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(windows, tokens, self.num_heads, 2 * self.key_dim + self.d)
        q, k, v = qkv.transpose(1, 2).split([self.key_dim, self.key_dim, self.d], dim=3)
        bias = self._biases() if self.ab is None else self.ab
        y = attend(q, k, v, bias.unsqueeze(0), self.scale)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(windows, tokens, self.dh))
        return out
