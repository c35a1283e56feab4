"""How a tensor falls into pairs of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    Dense = TypeVar("Dense", Tensor, npt.NDArray[Any])

Pairing = Literal["rows", "flat"]

CODED_DTYPES = ("F64", "F32", "F16", "BF16")  # dtypes that can be coded on a trajectory, as the format calls them


@dataclass(frozen=True)
class Shape:
    """How a tensor of shape `dims` falls into pairs.

    With pairing "rows" the last dimension is paired row by row (linear weights (out, in): along `in`), with "flat" the
    whole tensor in row-major order is one row. A row of odd length ends with a pair whose second weight is padding.
    """

    dims: tuple[int, ...]
    pairing: Pairing

    @property
    def numel(self) -> int:
        """Number of weights."""
        return math.prod(self.dims)

    @property
    def row(self) -> int:
        """Weights in a row."""
        return self.dims[-1] if self.pairing == "rows" else self.numel

    @property
    def row_pairs(self) -> int:
        """Pairs in a row."""
        return (self.row + 1) // 2

    @property
    def rows(self) -> int:
        """Number of rows."""
        return math.prod(self.dims[:-1]) if self.pairing == "rows" else 1

    @property
    def count(self) -> int:
        """Number of pairs."""
        return self.rows * self.row_pairs

    @property
    def padded(self) -> bool:
        """Whether rows end with a padding weight."""
        return self.row % 2 == 1

    def split(self, tensor: Tensor) -> Tensor:
        """Return the pairs of `tensor` as (count, 2) in its dtype: a view where no padding is needed.

        The padding weight is the mean of the second weights, as in the published method (0 when there are none). The sum
        in double precision keeps a constant tensor constant.
        """
        if not self.padded:
            return tensor.reshape(self.count, 2)
        rows = tensor.reshape(self.rows, self.row)
        second = rows[:, 1::2]
        padded = tensor.new_zeros(self.rows, 2 * self.row_pairs)
        padded[:, : self.row] = rows
        if second.numel():
            padded[:, self.row] = second.double().mean()
        return padded.view(self.count, 2)

    def join(self, pairs: Tensor) -> Tensor:
        """Return the tensor whose pairs are `pairs` (count, 2), contiguous; shares their memory if no row is padded."""
        return self._without_padding(pairs).contiguous().reshape(self.dims)

    def join_array(self, pairs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array whose pairs are `pairs` (count, 2), like `join`."""
        return np.ascontiguousarray(self._without_padding(pairs)).reshape(self.dims)

    def _without_padding(self, pairs: Dense) -> Dense:
        return pairs.reshape(self.rows, 2 * self.row_pairs)[:, : self.row]

    def clear_padding(self, pairs: Tensor, start: int) -> None:
        """Set the padding weights in `pairs`, which begin at index `start`, to zero."""
        if self.padded:
            pairs[(-start - 1) % self.row_pairs :: self.row_pairs, 1] = 0
