"""Attention without positions: mask decoders, and the image encoder of EfficientSAM."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from bhk.kernels.attention import attend


class EncoderAttention(nn.Module):
    """Attention among all tokens of a picture, of EfficientSAM.

    Attributes:
        num_heads: number of heads.
        scale: factor of scores.
        qkv: linear layer to queries, keys and values, side by side.
        proj: linear layer behind the heads.
    """

    parts: ClassVar = frozenset({"qkv", "proj"})

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = original.num_heads
        self.scale: float = original.scale
        self.qkv: nn.Module = original.qkv
        self.proj: nn.Module = original.proj

    def forward(self, x: Tensor) -> Tensor:
        """Return what tokens gather, (batch, tokens, channels), for tokens x of that shape."""
        batch, tokens, channels = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, channels // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = attend(q, k, v, scale=self.scale)
        out: Tensor = self.proj(y.transpose(1, 2).reshape(batch, tokens, channels))
        return out


class DecoderAttention(nn.Module):
    """Attention from some tokens to others, of mask decoders.

    Attributes:
        num_heads: number of heads.
        q_proj, k_proj, v_proj: linear layers to queries, keys and values.
        out_proj: linear layer behind the heads.
    """

    parts: ClassVar = frozenset({"q_proj", "k_proj", "v_proj", "out_proj"})

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.num_heads: int = original.num_heads
        self.q_proj: nn.Module = original.q_proj
        self.k_proj: nn.Module = original.k_proj
        self.v_proj: nn.Module = original.v_proj
        self.out_proj: nn.Module = original.out_proj

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return what tokens q gather, (batch, queries, channels), from tokens k and v (batch, keys, channels)."""
        return self._gather(*self._project(q, k, v))

    def _project(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of tokens, (batch, heads, tokens, head)."""
        return self._heads(self.q_proj(q)), self._heads(self.k_proj(k)), self._heads(self.v_proj(v))

    def _gather(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """Return x (batch, tokens, channels) as (batch, heads, tokens, head)."""
        return x.reshape(*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads).transpose(1, 2)


class EdgeAttention(DecoderAttention):
    """The same with the arguments of EdgeSAM, whose training asks for the weights."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, kd_targets: dict[str, Tensor] | None = None, target_name: str = ""
    ) -> Tensor:
        """Return what tokens q gather; put the weights (batch, heads, queries, keys) into `kd_targets`, if it is given."""
        q, k, v = self._project(q, k, v)
        if kd_targets is not None:
            kd_targets[target_name] = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        return self._gather(q, k, v)
