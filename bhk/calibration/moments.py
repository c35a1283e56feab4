"""Second moments of the inputs of a model's layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# At most this many rows of inputs count per product, evenly spaced. A SAM encoder has 4,096 tokens per picture, and neighbours
# are much alike; using half of them halves the cost.
MAX_ROWS = 2048
# The rows of a product are cut into this many runs. What differs from run to run tells how much of the sum is chance.
BLOCKS = 32


@dataclass
class SecondMoments:
    """The second moments of a layer's inputs x, and how far they differ from block to block of the inputs.

    Attributes:
        total: sum of x x^T, float32 (columns, columns).
        blocks: number of blocks.
        squares: sum over the blocks of the squared Frobenius norm of each block's own sum of x x^T.
    """

    total: Tensor
    blocks: int = 0
    squares: float = 0.0

    def add(self, rows: Tensor, weight: int) -> None:
        """Add inputs, float32 (rows, columns), neighbours next to each other; each counts `weight` times."""
        self.total.addmm_(rows.T, rows, alpha=weight)
        blocks = rows.tensor_split(min(BLOCKS, len(rows)))
        squares = [(block @ block.T).double().square().sum() for block in blocks]  # |X^T X| = |X X^T|
        self.squares += weight**2 * float(torch.stack(squares).sum())
        self.blocks += len(blocks)

    @property
    def chance(self) -> float:
        """The share of the moments' power that is chance, from 0 (many inputs) to 1 (no evidence).

        It is estimated as by Ledoit and Wolf (2004), with blocks of neighbours in place of single inputs, because neighbours
        are alike.
        """
        power = float(self.total.double().square().sum())
        if self.blocks < 2 or not 0 < power < math.inf:
            return 1.0
        chance = (self.blocks * self.squares - power) / (self.blocks - 1)
        return min(max(chance / power, 0.0), 1.0)


class Moments(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, gathers the second moments of the inputs of every product with one of the given parameters.

    It intercepts torch's operations rather than modules, so it sees linear layers, attention with one weight for queries, keys
    and values, and convolutions (whose inputs it unfolds into patches), wherever they are called from. A parameter used in
    another way (in transposed or grouped convolutions, or as a lookup table) gets no moments.

    Args:
        parameters: name -> parameter: matrices (out, in) and convolution weights (out, in, height, width).
        added: called with the name of the parameter after each product.

    Attributes:
        found: name -> second moments, for each weight that received inputs, flattened to (out, columns).
    """

    def __init__(self, parameters: Mapping[str, Tensor], added: Callable[[str], None] = lambda name: None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, SecondMoments] = {}
        self._added = added
        self._places: dict[int, list[tuple[range, str]]] = {}  # several parameters may be parts of one storage
        for name, weight in parameters.items():
            start = weight.storage_offset()
            place = range(start, start + weight.numel()), name
            self._places.setdefault(weight.untyped_storage().data_ptr(), []).append(place)
        self._columns = {name: weight.shape[1:].numel() for name, weight in parameters.items()}

    def __torch_dispatch__(
        self, operation: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        packet = operation.overloadpacket
        if packet is aten.mm:
            self._multiplied(args[0], args[1])
        elif packet is aten.addmm:
            self._multiplied(args[1], args[2])
        elif packet is aten.convolution:
            self._convolved(*args)
        return operation(*args, **(kwargs or {}))

    def _multiplied(self, inputs: Tensor, weight: Tensor) -> None:
        """Record a product of inputs (rows, columns) with a transposed weight, as linear layers compute it."""
        name = self._name(weight)
        if name is not None and weight.stride() == (1, self._columns[name]) and len(weight) == self._columns[name]:
            self._add(name, inputs)

    def _convolved(
        self,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
    ) -> None:
        name = self._name(weight)
        if name is None or transposed or groups != 1 or inputs.ndim != 4:
            return
        patches = functional.unfold(inputs, weight.shape[2:], dilation, padding, stride)
        if patches.shape[1] != self._columns[name]:  # only part of the weight is used
            return
        self._add(name, patches.transpose(1, 2).reshape(-1, patches.shape[1]))

    def _name(self, weight: Tensor) -> str | None:
        places = self._places.get(weight.untyped_storage().data_ptr(), ())
        return next((name for place, name in places if weight.storage_offset() in place), None)

    def _add(self, name: str, inputs: Tensor) -> None:
        if not len(inputs):
            return
        every = -(-len(inputs) // MAX_ROWS)
        rows = inputs[::every].float()
        if name not in self.found:
            self.found[name] = SecondMoments(rows.new_zeros(rows.shape[1], rows.shape[1]))
        self.found[name].add(rows, every)
        self._added(name)
