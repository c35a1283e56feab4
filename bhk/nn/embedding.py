"""An embedding whose table is held as codes."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.nn.coded import CodedWeight, is_transformed, refuse_onnx
from bhk.nn.device import Device
from bhk.nn.errors import HyperLinearError
from bhk.nn.precision import Dtype

# Smaller tables are tokens and position tables, which the code around them mostly reads as a whole.
MIN_ROWS = 4096


class HyperEmbedding(CodedWeight, nn.Embedding):
    """Rows of a table that is held as codes; only those that are looked up are decoded. It behaves like `torch.nn.Embedding`.

    `bhk.load` puts one in the place of each vocabulary. The constructor makes a table with values near zero, ready for
    `load_state_dict`. The table itself is fixed. A layer whose table is written to becomes an `nn.Embedding`.

    >>> embedding = bhk.nn.HyperEmbedding(49408, 1024)
    >>> embedding(torch.tensor([[3, 5]])).shape
    torch.Size([1, 2, 1024])

    Args:
        num_embeddings, embedding_dim, padding_idx, device: as in `torch.nn.Embedding`.
        dtype: dtype of the rows: float64, float32, float16 or bfloat16; None is torch's default dtype.

    Attributes:
        num_embeddings, embedding_dim: as in `torch.nn.Embedding`.

    Raises:
        LoadOptionError: `dtype` is not a floating-point dtype.
    """

    dense_class: ClassVar = nn.Embedding

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: Device | None = None,
        dtype: Dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, device, dtype)
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        # What else an nn.Embedding has, with its default values.
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows with these numbers, (..., embedding_dim), for integers of any shape (...).

        Raises:
            IndexError: there is no row with such a number.
        """
        refuse_onnx()
        if is_transformed():
            return functional.embedding(input, self.dense_weight(self._dtype))
        found: Tensor = torch.ops.bhk.look_up(
            input, self.codes, self.codebook, self.outliers, self.embedding_dim, self._dtype
        )
        return found

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, *args: object, **options: object) -> NoReturn:
        """Refuse to take a table, because the layer holds codes.

        Raises:
            HyperLinearError: always; the message says how to get there.
        """
        raise HyperLinearError(
            f"{cls.__name__} holds codes, not a table; put torch.nn.Embedding.from_pretrained(table) into the model, write it "
            "with bhk.convert(model, path), and load it with bhk.load_into(model, path)"
        )

    def to_embedding(self) -> nn.Embedding:
        """Return an `nn.Embedding` with the decoded table."""
        embedding = nn.Embedding(
            self.num_embeddings, self.embedding_dim, self.padding_idx, device="meta", dtype=self._dtype
        )
        embedding.weight = nn.Parameter(self.dense_weight(self._dtype))
        return embedding.train(self.training)

    def extra_repr(self) -> str:
        """Return the text inside the brackets of `repr`."""
        return f"{self.num_embeddings}, {self.embedding_dim}, bits_per_weight={self.bits_per_weight:.2f}"
