"""An embedding whose table is held as codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bhk.nn.coded import CodedWeight
from bhk.nn.device import Device
from bhk.nn.precision import Dtype

# Smaller tables are tokens and position tables, which the code around them mostly reads as a whole.
MIN_ROWS = 4096


class HyperEmbedding(CodedWeight):
    """Rows of a table that is held as codes; only those that are looked up are decoded. It behaves like `torch.nn.Embedding`.

    `bhk.load` puts one in the place of each vocabulary. The constructor makes a table with values near zero, ready for
    `load_state_dict`. The table itself is fixed.

    >>> embedding = bhk.nn.HyperEmbedding(49408, 1024)
    >>> embedding(torch.tensor([[3, 5]])).shape
    torch.Size([1, 2, 1024])

    Args:
        num_embeddings, embedding_dim, device: as in `torch.nn.Embedding`.
        dtype: dtype of the rows: float64, float32, float16 or bfloat16; None is torch's default dtype.

    Attributes:
        num_embeddings, embedding_dim: as in `torch.nn.Embedding`.

    Raises:
        LoadOptionError: `dtype` is not a floating-point dtype.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, device: Device | None = None, dtype: Dtype | None = None
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device, dtype)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim

    def forward(self, rows: Tensor) -> Tensor:
        """Return the rows with these numbers, (..., embedding_dim), for integers of any shape (...).

        Raises:
            IndexError: there is no row with such a number.
        """
        found: Tensor = torch.ops.bhk.look_up(
            rows, self.codes, self.codebook, self.outliers, self.embedding_dim, self._dtype
        )
        return found

    def to_embedding(self) -> nn.Embedding:
        """Return an `nn.Embedding` with the decoded table."""
        embedding = nn.Embedding(self.num_embeddings, self.embedding_dim, device="meta", dtype=self._dtype)
        embedding.weight = nn.Parameter(self.weight)
        return embedding.train(self.training)

    def extra_repr(self) -> str:
        """Return the text inside the brackets of `repr`."""
        return f"{self.num_embeddings}, {self.embedding_dim}, bits_per_weight={self.bits_per_weight:.2f}"
