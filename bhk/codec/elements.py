"""Elements of tensors in numpy, by the format's dtype names.

numpy has no BF16, F8_E4M3 and F8_E5M2. Their bits are kept in unsigned integers, and `widened` turns them into
float32, which holds each of their values exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# The numpy type that holds the bits of an element.
BIT_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
    "C128": np.complex128,
}


def rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """Return finite float32 values as the bits of `dtype`, a coded dtype; halves round to even, as everywhere."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):  # what is too large for float16 becomes infinity
        return values.astype(BIT_TYPES[dtype], copy=False)


def widened(bits: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Return the values of elements whose bits are given: float32 for a dtype that numpy lacks, else `bits` itself."""
    if dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (bits.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    return _E4M3[bits] if dtype == "F8_E4M3" else bits


def _e4m3_values() -> npt.NDArray[np.float32]:
    """Return the values of the 256 numbers in F8_E4M3: a sign, 4 bits of exponent and 3 of mantissa, without infinity."""
    codes = np.arange(256)
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent, mantissa = codes >> 3 & 0xF, codes & 7
    magnitude = np.where(exponent, 8 + mantissa, mantissa) * 2.0 ** (np.maximum(exponent, 1) - 10)
    return np.where(codes & 0x7F == 0x7F, np.nan, sign * magnitude).astype(np.float32)


_E4M3 = _e4m3_values()
