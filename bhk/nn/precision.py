"""The dtype of a model: what callers may pass, and other precisions for packages that feed a model float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from bhk.nn.errors import LoadOptionError

# A torch dtype, or its name without "torch.": "bfloat16".
Dtype: TypeAlias = torch.dtype | str

_HALF = (torch.float16, torch.bfloat16)
_NORMS = (functional.layer_norm,)
# Functions that refuse operands of several dtypes.
_PRODUCTS = (
    functional.linear,
    functional.conv2d,
    functional.conv_transpose2d,
    torch.matmul,
    Tensor.matmul,
    Tensor.__matmul__,
    torch.bmm,
    torch.einsum,
)


def floating_dtype(dtype: Dtype) -> torch.dtype:
    """Return the torch dtype that `dtype` names.

    >>> from bhk.nn.precision import floating_dtype
    >>> floating_dtype("bfloat16")
    torch.bfloat16

    Raises:
        LoadOptionError: torch has no such dtype, or it is not a floating-point one.
    """
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise LoadOptionError(
            f"dtype {str(dtype)!r} is not a floating-point dtype of torch; use float32, bfloat16, float16 or float64"
        )
    return found


@contextlib.contextmanager
def mixed_precision(model: nn.Module) -> Iterator[None]:
    """Let a model in another dtype accept float32 inputs while the block runs. Models in float32 are not affected.

    The packages of the family make float32 prompts and pictures, whatever the dtype of their model. This holds for the thread
    that enters the block; the model is not changed.
    """
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    with contextlib.ExitStack() as stack:
        if weight is not None and weight.dtype in _HALF:
            stack.enter_context(torch.autocast(weight.device.type, dtype=weight.dtype))
            if weight.device.type == "cpu":  # on GPUs autocast does this
                stack.enter_context(_Cast(weight.dtype, _NORMS))
        elif weight is not None and weight.dtype == torch.float64:  # autocast does not know it
            stack.enter_context(_Cast(weight.dtype, (*_NORMS, *_PRODUCTS)))
        yield


class _Cast(TorchFunctionMode):
    """Casts the inputs of some functions to the dtype of a model."""

    def __init__(self, dtype: torch.dtype, functions: tuple[Callable[..., Any], ...]) -> None:
        super().__init__()
        self._dtype = dtype
        self._functions = frozenset(functions)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in self._functions:
            args, kwargs = tree_map(self._cast, (args, dict(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _cast(self, value: Any) -> Any:
        return value.to(self._dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
