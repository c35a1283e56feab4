"""Second moments of the inputs of a model's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# At most this many rows of inputs count per product, evenly spaced. A SAM encoder has 4,096 tokens per picture, and neighbours
# are much alike; using half of them halves the cost.
MAX_ROWS = 2048


class Moments(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, sums x x^T over the inputs x of every product with one of the given parameters.

    It intercepts torch's operations rather than modules, so it sees linear layers, attention with one weight for queries, keys
    and values, and convolutions (whose inputs it unfolds into patches), wherever they are called from. A parameter used in
    another way (in transposed or grouped convolutions, or as a lookup table) gets no moments.

    Args:
        parameters: name -> parameter: matrices (out, in) and convolution weights (out, in, height, width).

    Attributes:
        sums: name -> float32 (columns, columns), for each weight that received inputs, flattened to (out, columns).
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sums: dict[str, Tensor] = {}
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
        if name not in self.sums:
            self.sums[name] = rows.new_zeros(rows.shape[1], rows.shape[1])
        self.sums[name].addmm_(rows.T, rows, alpha=every)
