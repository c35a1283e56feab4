"""A yardstick: the scheme of the published Birkhoff kernel, written anew.

Source: "Compress Any Segment Anything Model", 2025, and the description of its public kernel; none of its code is used here.
It keeps the properties that make the published kernel slow, to measure it beside `bhk.kernels`:

    code = c*n^2 + q*n + r, 16 bits a pair        w_even = s_c * (code % n^2 - h_x) * side/n^2 + centre_even
    s_c = 1 + c * spacing / (side/2)              w_odd  = s_c * (r - h_y) * side/n + centre_odd

- each call transposes and copies the activations (rows, in)
- one tile serves all shapes: 64 outputs, 32 rows, 32 input features
- the loop decodes each weight in float arithmetic, and both weights of a pair load its code
- products are TF32 and the output is float32, whatever the activations are
- the codebook is constexpr, so each layer compiles its own kernel
"""

# ruff: noqa: N803 (compile-time constants of Triton kernels)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from bhk.codec.codebook import Codebook, Codes

BLOCK_OUT, BLOCK_ROWS, BLOCK_K = 64, 32, 32


@triton.jit
def _decode(code, is_even, WINDINGS: tl.constexpr, CONSTANTS: tl.constexpr):
    """Return the float32 weights, even or odd, of integer codes."""
    pitch_x: tl.constexpr = CONSTANTS[0]
    pitch_y: tl.constexpr = CONSTANTS[1]
    origin_x: tl.constexpr = CONSTANTS[2]
    origin_y: tl.constexpr = CONSTANTS[3]
    growth: tl.constexpr = CONSTANTS[4]
    steps: tl.constexpr = WINDINGS * WINDINGS
    number = code.to(tl.float32)
    # Half a step more keeps rounding errors from pushing a quotient below a whole number.
    shell = tl.floor((number + 0.5) / steps)
    step = number - shell * steps
    phase = step - tl.floor((step + 0.5) / WINDINGS) * WINDINGS
    scale = 1.0 + shell * growth
    even = (step - origin_x) * pitch_x * scale + CONSTANTS[5]
    odd = (phase - origin_y) * pitch_y * scale + CONSTANTS[6]
    return tl.where(is_even, even, odd)


@triton.jit
def _published_kernel(
    x, codes, bias, y, rows, out_features, in_features, pairs,
    WINDINGS: tl.constexpr, CONSTANTS: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_OUT: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    features = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    samples = tl.program_id(1) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    total = tl.zeros((BLOCK_OUT, BLOCK_ROWS), dtype=tl.float32)
    for first in range(0, in_features, BLOCK_K):
        columns = first + tl.arange(0, BLOCK_K)
        known = (features[:, None] < out_features) & (columns[None, :] < in_features)
        at = codes + features[:, None].to(tl.int64) * pairs + columns[None, :] // 2
        code = tl.load(at, mask=known, other=0).to(tl.int32) & 0xFFFF
        weights = _decode(code, columns[None, :] % 2 == 0, WINDINGS, CONSTANTS)
        at = x + columns[:, None].to(tl.int64) * rows + samples[None, :]
        inside = (columns[:, None] < in_features) & (samples[None, :] < rows)
        total = tl.dot(weights, tl.load(at, mask=inside, other=0.0).to(tl.float32), total, input_precision="tf32")
    if HAS_BIAS:
        total += tl.load(bias + features, mask=features < out_features, other=0.0).to(tl.float32)[:, None]
    at = samples[None, :].to(tl.int64) * out_features + features[:, None]
    tl.store(y + at, total, mask=(samples[None, :] < rows) & (features[:, None] < out_features))


def published_product(x: Tensor, codes: Tensor, codebook: Codebook, bias: Tensor | None) -> Tensor:
    """Return X @ W.T + bias, float32 (rows, out).

    Args:
        x: float16, bfloat16 or float32 (rows, in).
        codes: scalar codes, int16 that hold unsigned values, (out, ceil(in / 2)).
        codebook: with at most 2^16 codes.
        bias: floating (out,), or None.
    """
    (rows, in_features), (out_features, pairs) = x.shape, codes.shape
    line = codebook.trajectory
    growth = codebook.spacing / (codebook.side / 2)
    constants = (line.pitch_x, line.pitch_y, line.origin_x, line.origin_y, growth, *codebook.centre)
    y = torch.empty(rows, out_features, dtype=torch.float32, device=x.device)
    _published_kernel[(triton.cdiv(out_features, BLOCK_OUT), triton.cdiv(rows, BLOCK_ROWS))](
        x.t().contiguous(), codes, bias, y, rows, out_features, in_features, pairs,
        WINDINGS=codebook.windings, CONSTANTS=constants, HAS_BIAS=bias is not None,
        BLOCK_OUT=BLOCK_OUT, BLOCK_ROWS=BLOCK_ROWS, BLOCK_K=BLOCK_K,
    )  # fmt: skip
    return y


class PublishedLinear(nn.Module):
    """A linear layer held as 16-bit scalar codes and multiplied by the published scheme.

    Args:
        codebook: of the weight (out, in), with at most 2^16 codes.
        codes: of its pairs, row by row.
        bias: (out,), or None.
    """

    def __init__(
        self, codebook: Codebook, codes: Codes, out_features: int, in_features: int, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        if codebook.code_count > 1 << 16:
            raise ValueError(f"{codebook.code_count} codes do not fit 16 bits")
        self.codebook = codebook
        scalars = codes.scalars(codebook.windings).view(out_features, (in_features + 1) // 2)
        self.register_buffer("codes", scalars.to(torch.int16))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, float32 (..., out), of x (..., in)."""
        y = published_product(x.reshape(-1, x.shape[-1]), self.codes, self.codebook, self.bias)
        return y.view(*x.shape[:-1], -1)
