"""The format's dtype names and torch's."""

from __future__ import annotations

import torch
from torch import Tensor

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "C128": torch.complex128,
}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
_FOUR_BITS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # the numbers of float4_e2m1 by their lower three bits


def widened(tensor: Tensor) -> Tensor:
    """Return the values of a tensor as float64 or complex128; two in a row for each element of float4_e2m1fn_x2."""
    if tensor.dtype == torch.float4_e2m1fn_x2:
        table = torch.tensor([*_FOUR_BITS, *(-number for number in _FOUR_BITS)], dtype=torch.float64)
        both = tensor.view(torch.uint8).int()
        return table[torch.stack([both & 15, both >> 4], dim=-1).flatten(-2)]
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)
