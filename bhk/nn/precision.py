"""The dtype of a model: what callers may pass, and half precision for packages that feed a model float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bhk.nn.errors import LoadOptionError

# A torch dtype, or its name without "torch.": "bfloat16".
Dtype: TypeAlias = torch.dtype | str

_HALF = (torch.float16, torch.bfloat16)


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
    """Let a model in half precision accept float32 inputs while the block runs. Other models are not affected.

    The packages of the family make float32 prompts and pictures, whatever the dtype of their model.
    """
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    if weight is None or weight.dtype not in _HALF:
        yield
        return
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    hooks = [norm.register_forward_pre_hook(_to_weight) for norm in norms if weight.device.type == "cpu"]
    try:
        with torch.autocast(weight.device.type, dtype=weight.dtype):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _to_weight(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cast the input of a layer norm to the dtype of its weight; autocast does this on GPUs only."""
    dtype = norm.weight.dtype
    return tuple(value.to(dtype) for value in inputs)  # type: ignore[arg-type]
