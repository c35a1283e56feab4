"""The decoded weight of a layer that holds codes: a tensor to read. What is written to it reaches the layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from bhk.nn.errors import HyperLinearError

_SET_DATA = Tensor.data.__set__  # type: ignore[attr-defined]
_SET_GRADIENTS = Tensor.requires_grad.__set__  # type: ignore[attr-defined]

Hold = Callable[[nn.Parameter], None]


def decoded_weight(weight: Tensor, hold: Hold) -> Tensor:
    """Return `weight`, decoded just now, as a tensor that calls `hold` with a parameter when a program writes to it.

    A tensor without data, or one of a graph that is recorded, is returned as it is.
    """
    if torch.compiler.is_compiling() or type(weight) is not Tensor or weight.is_meta:
        return weight
    return _tied(weight, _Memory(weight, hold), is_whole=True)


class DecodedWeight(Tensor):
    """A decoded weight, or a view of it. What is computed from it is a plain tensor.

    Codes cannot be written to. Once a program writes to this tensor, to a view of it or to its `.data`, the layer takes the
    memory as its dense weight. What numpy gets is read-only, and DLPack gets nothing, because they do not tell of writes. Nor
    does a storage: do not write to that.
    """

    _memory: _Memory
    _is_whole: bool

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        weights = [value for value in tree_leaves((args, kwargs)) if isinstance(value, DecodedWeight)]
        with torch._C.DisableTorchFunctionSubclass():
            _refuse_gradients(func, args)
            if func is Tensor.__dlpack__:
                raise HyperLinearError("a weight held as codes cannot be shared by DLPack; share layer.dense_weight()")
            before = list(map(_writes, weights))
            result = func(*args, **kwargs)
            for weight, writes in zip(weights, before, strict=True):
                if _writes(weight) != writes:
                    weight._memory.write()
            if func == _SET_DATA and args[0]._is_whole:
                args[0]._memory.move(_plain(args[0]))
            return tree_map(partial(_returned, weights), result)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return _plain(self).clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _plain(self).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


class _Memory:
    """The memory that a weight was decoded into.

    Attributes:
        weight: a plain tensor of it.
        parameter: the layer's weight, once this memory was written to; None before.
    """

    def __init__(self, weight: Tensor, hold: Hold) -> None:
        self.weight = weight
        self.parameter: nn.Parameter | None = None
        self._hold = hold

    def write(self) -> nn.Parameter:
        """Return the layer's weight, which has this memory from now on."""
        if self.parameter is None:
            parameter = nn.Parameter(self.weight, requires_grad=False)
            self._hold(parameter)
            self.parameter = parameter
        return self.parameter

    def move(self, weight: Tensor) -> None:
        """Give the layer `weight`, in memory of its own."""
        self.weight = weight
        self.write().data = weight

    def is_of(self, tensor: Tensor) -> bool:
        """Return whether a tensor lies in this memory."""
        address = self.weight.untyped_storage().data_ptr()
        return address != 0 and tensor.untyped_storage().data_ptr() == address


def _tied(tensor: Tensor, memory: _Memory, *, is_whole: bool) -> DecodedWeight:
    with torch._C.DisableTorchFunctionSubclass():
        weight = tensor.as_subclass(DecodedWeight)
    weight._memory, weight._is_whole = memory, is_whole
    return weight


def _plain(weight: Tensor) -> Tensor:
    """Return a plain tensor with the memory of `weight`."""
    with torch._C.DisableTorchFunctionSubclass():
        return weight.as_subclass(Tensor)


def _writes(weight: Tensor) -> int:
    """Return how often a tensor, or a view of it, was written to. Inference mode counts no writes to what it makes."""
    return 0 if weight.is_inference() else weight._version


def _returned(weights: list[DecodedWeight], value: Any) -> Any:
    """Return a result of a function of `weights`; what shares their memory stays tied to the layer."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False  # numpy does not tell of writes
    elif isinstance(value, DecodedWeight):  # of a function that wrote to it
        return value._memory.parameter if value._is_whole and value._memory.parameter is not None else value
    elif isinstance(value, Tensor) and value.layout is torch.strided:
        memory = next((weight._memory for weight in weights if weight._memory.is_of(value)), None)
        if memory is not None and value is not memory.parameter:
            return _tied(value, memory, is_whole=False)
    return value


def _refuse_gradients(func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if (func is Tensor.requires_grad_ and args[1:] != (False,)) or (func == _SET_GRADIENTS and args[1]):
        raise HyperLinearError(
            "a weight held as codes takes no gradients; call bhk.nn.to_dense(model) to train it, or train adapters"
        )
