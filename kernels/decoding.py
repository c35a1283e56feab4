"""Decoding in Triton: from codes to float32 weights, with the rounding that the format defines.

Source: format_spec/README.md, on decoding. Kernels that use `decode_pair` are launched with `enable_fp_fusion=False`: a
fused multiply-add would round once where the format rounds twice.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def decode_pair(winding, phase, shell, book, LATTICE: tl.constexpr):
    """Return the float32 weights (even, odd) at integer `winding` and `phase`; `book` points to the codebook.

    With LATTICE in shell 0 of a centred square, where the scale is exactly 1; else in `shell` of any square.
    """
    centre_even, centre_odd = tl.load(book), tl.load(book + 1)
    side, windings = tl.load(book + 2), tl.load(book + 3)
    centred = LATTICE or tl.load(book + 6) > 0
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
    if not LATTICE:
        half = side * 0.5
        scale = tl.div_rn(half + shell.to(tl.float32) * tl.load(book + 5), half + tl.zeros_like(q))
        x, y = x * scale, y * scale
    return x + centre_even, y + centre_odd
