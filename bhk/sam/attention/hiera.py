"""Blocks of SAM 2's image encoder, whose attention is fused already, for some tokens at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

# Numbers that a CPU computes at a time, 12 MiB in float32: they take the memory of those before.
NUMBERS = 3 << 20


class HieraBlock(nn.Module):
    """A block of Hiera: attention, in windows or among all tokens, which may thin out the grid, and two linear layers.

    The package writes queries, keys, values and hidden features of all tokens to memory: 117 MB each in the first blocks of
    SAM2-B+. Here a CPU computes them for some windows, and some tokens, at a time.

    Attributes:
        dim, dim_out: channels before and behind it.
        window_size: the side of windows, or 0.
        q_stride: how much it thins out the grid, or None.
        pool: what thins it out, or None.
        norm1, norm2: layer norms in front of both steps.
        attn: the package's attention, in a window.
        proj: linear layer to other channels, or None.
        mlp: the linear layers.
    """

    parts: ClassVar = frozenset({"norm1", "attn", "drop_path", "norm2", "mlp"})
    further: ClassVar = frozenset({"pool", "proj"})

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.dim: int = original.dim
        self.dim_out: int = original.dim_out
        self.window_size: int = original.window_size
        self.q_stride: tuple[int, int] | None = original.q_stride
        self.pool: nn.Module | None = original.pool
        self.norm1: nn.Module = original.norm1
        self.attn: nn.Module = original.attn
        self.drop_path: nn.Module = original.drop_path
        self.norm2: nn.Module = original.norm2
        self.proj: nn.Module | None = getattr(original, "proj", None)
        self.mlp: nn.Module = original.mlp
        first = original.mlp.layers[0]
        self._hidden: int = getattr(first, "out_features", 4 * original.dim_out)  # an adapter may be around it

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (batch, height, width, channels) for tokens x of that shape."""
        tokens = self.norm1(x)
        if self.proj is not None:
            x = self.proj(tokens)
            x = x if self.pool is None else self.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self._attend(tokens, x.shape[1:3])
        if not _in_pieces(x):
            return self._perceptron(x)
        parts = x.flatten(0, 2).chunk(_pieces(x[..., 0].numel(), self._hidden))
        return torch.cat([self._perceptron(part) for part in parts]).view(x.shape)

    def _attend(self, tokens: Tensor, grid: torch.Size) -> Tensor:
        """Return what tokens (batch, height, width, channels) gather, on a grid of this height and width."""
        size = self.window_size
        if not size:
            found: Tensor = self.attn(tokens)
            return found
        windows = _windows(tokens, size)
        pieces = _pieces(windows[..., 0].numel(), 3 * self.dim_out) if _in_pieces(windows) else 1
        gathered = torch.cat([self.attn(part) for part in windows.chunk(pieces)])
        return _joined(gathered, len(tokens), grid)

    def _perceptron(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def _in_pieces(x: Tensor) -> bool:
    """Return whether to compute some tokens at a time: on a CPU, but not in a graph, which would hold each piece."""
    is_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.is_cpu and not is_traced


def _pieces(tokens: int, width: int) -> int:
    """Return in how many pieces to compute `width` numbers for each token."""
    return max(1, -(-tokens * width // NUMBERS))


def _windows(x: Tensor, size: int) -> Tensor:
    """Cut tokens (batch, height, width, channels) into windows (windows, size, size, channels), with zeros beyond the edge."""
    x = functional.pad(x, (0, 0, 0, -x.shape[2] % size, 0, -x.shape[1] % size))
    batch, height, width, channels = x.shape
    cut = x.view(batch, height // size, size, width // size, size, channels)
    return cut.transpose(2, 3).reshape(-1, size, size, channels)


def _joined(windows: Tensor, batch: int, grid: torch.Size) -> Tensor:
    """Return the tokens of windows (windows, size, size, channels) on a grid: (batch, height, width, channels)."""
    (height, width), (_, size, _, channels) = grid, windows.shape
    cut = windows.view(batch, -(-height // size), -(-width // size), size, size, channels).transpose(2, 3)
    whole = cut.reshape(batch, cut.shape[1] * size, cut.shape[3] * size, channels)
    return whole[:, :height, :width]
