"""The arithmetic of format_spec/README.md, sections 4 to 7, without the library: what codes decode to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

f32 = np.float32
_DTYPES_BY_SIZE = {
    1: "F8_E4M3 F8_E5M2 I8 U8 BOOL",
    2: "F16 BF16 I16 U16",
    4: "F32 I32 U32",
    8: "F64 I64 U64 C64",
    16: "C128",
}
SIZES = {name: size for size, names in _DTYPES_BY_SIZE.items() for name in names.split()}


def weights(codebook: dict[str, Any], codes: list[int]) -> np.ndarray:
    """Return the pairs of scalar `codes` as float32 (P, 2): section 7."""
    n, shells = codebook["windings"], codebook.get("shells", 0)
    side, spacing = f32(codebook["side"]), f32(codebook.get("spacing", 0))
    step = np.array(codes, dtype=np.int64) % (n * n)
    k, q, r = step.astype(f32), (step // n).astype(f32), (step % n).astype(f32)
    half, pitch_x = side / f32(2), side / f32(n * n)
    if codebook["lattice"] == "centred":
        x = (k - f32((n * n - 1) / 2)) * pitch_x
        y = (r - f32((n - 1) / 2)) * (side / f32(n))
    elif codebook["lattice"] == "grid":
        x, y = ((number - f32(n // 2)) * (side / f32(n)) for number in (q, r))
    else:
        x = (k - f32(n * n / 2)) * pitch_x
        a = k * (f32(n) * pitch_x)
        y = (a.astype(np.float64) - q.astype(np.float64) * np.float64(side)).astype(f32) - half
    scales = np.array([(half + f32(c) * spacing) / half for c in range(shells + 1)], dtype=f32)
    scale = scales[np.array(codes, dtype=np.int64) // (n * n)]
    cx, cy = map(f32, codebook["centre"])
    pairs = np.stack([x * scale + cx, y * scale + cy], axis=1)
    assert pairs.dtype == f32
    return pairs


def pair_count(shape: list[int], pairing: str) -> int:
    """Return the number of pairs of a tensor: section 5."""
    rows, row = (math.prod(shape[:-1]), shape[-1]) if pairing == "rows" else (1, math.prod(shape))
    return rows * ((row + 1) // 2)


def tensor_bytes(pairs: np.ndarray, shape: list[int], pairing: str, dtype: str) -> bytes:
    """Return the bytes of the tensor that float32 `pairs` (P, 2) make: sections 4, 5 and 7.4."""
    row = shape[-1] if pairing == "rows" else math.prod(shape)
    kept = np.ascontiguousarray(pairs.reshape(-1, row + row % 2)[:, :row]).reshape(-1)
    if dtype == "BF16":
        bits = kept.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    with np.errstate(over="ignore"):
        return kept.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
