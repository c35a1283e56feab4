"""Whether a tensor has dense data of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy


def why_not_dense(tensor: Tensor) -> str | None:
    """Return why `tensor` has no plain dense data, such as "is sparse (torch.sparse_coo)"; None if it has.

    A subclass of Tensor has them if it has a storage of its own. Those that wrap other tensors, as those of torchao and DTensor
    do, have none, and only their own methods know what they stand for.
    """
    if is_lazy(tensor):
        return "has no shape yet, because its lazy module has not run"
    if tensor.is_meta:
        return "has no data (device meta)"
    if tensor.is_quantized:
        return f"is quantized ({tensor.dtype})"
    if tensor.is_nested:
        return "is nested"
    if tensor.layout is not torch.strided:
        return f"is sparse ({tensor.layout})"
    try:
        tensor.untyped_storage().data_ptr()
    except RuntimeError:
        return f"is a {type(tensor).__module__}.{type(tensor).__qualname__}, which has no data of its own"
    return None
