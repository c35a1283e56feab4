"""Models in half precision, whose packages make float32 prompts and pictures for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_HALF = (torch.float16, torch.bfloat16)


@contextlib.contextmanager
def mixed_precision(model: nn.Module) -> Iterator[None]:
    """Let float32 inputs meet weights in half precision while the block runs; change nothing for other models."""
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
    """Cast the input of a layer norm, which autocast does on a GPU only."""
    dtype = norm.weight.dtype
    return tuple(value.to(dtype) for value in inputs)  # type: ignore[arg-type]
