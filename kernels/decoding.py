"""Decoding in Triton: from codes to float32 weights, with the rounding that the format defines.

Source: format_spec/README.md, on decoding. Kernels that use `decode_pair` are launched with `enable_fp_fusion=False`: a
fused multiply-add would round once where the format rounds twice.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def decode_pair(winding, phase, shell, book):
    """Return the float32 weights (even, odd) at integer `winding`, `phase` and `shell`; `book` points to the codebook."""
    centre_even, centre_odd = tl.load(book), tl.load(book + 1)
    side, windings, spacing = tl.load(book + 2), tl.load(book + 3), tl.load(book + 5)
    centred = tl.load(book + 6) > 0
    pitch_x = tl.div_rn(side, windings * windings)
    origin_x = (windings * windings - tl.where(centred, 1.0, 0.0)) * 0.5
    q, r = winding.to(tl.float32), phase.to(tl.float32)
    step = q * windings + r
    x = (step - origin_x) * pitch_x
    if centred:
        y = (r - (windings - 1.0) * 0.5) * tl.div_rn(side, windings)
    else:  # the remainder of a float32 product, as published
        along = step * (pitch_x * windings)
        wrapped = along.to(tl.float64) - q.to(tl.float64) * side.to(tl.float64)
        y = wrapped.to(tl.float32) - side * 0.5
    half = side * 0.5
    scale = tl.div_rn(half + shell.to(tl.float32) * spacing, half + tl.zeros_like(q))
    return x * scale + centre_even, y * scale + centre_odd
