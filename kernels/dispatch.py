"""The operators on a GPU: which Triton kernel serves a call.

Every call of a layer passes here, and for a small layer this takes as long on the host as its work on the GPU:
`tools/bench/host_time.py` measures it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import dense, few_rows, integer, tuning
from .gpu import Gpu, float32_precision, gpu_of
from .resident import MAX_FAR, MAX_INTEGER_WIDTH
from .tuning import Tile

# Up to this many rows the fused product is probably faster than decoding and cuBLAS; the first guess before measuring.
FEW_ROWS = 48
# Up to this share of the pairs, correcting for outliers takes little time beside the fused product itself.
FEW_OUTLIERS = 1 / 100


def decode(codes: Tensor, codebook: Tensor, outliers: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Run `torch.ops.bhk.decode` on a GPU."""
    if codes.device.index != torch.cuda.current_device():  # Triton launches on the current device
        with torch.cuda.device(codes.device):
            return dense.decode(codes, codebook, outliers, in_features, dtype)
    return dense.decode(codes, codebook, outliers, in_features, dtype)


def hyper_linear(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    outlier_starts: Tensor,
    far: Tensor,
    bias: Tensor | None,
    compute: str,
) -> Tensor:
    """Run `torch.ops.bhk.hyper_linear` on a GPU, with the kernel for this number of rows and class of weight."""
    if x.device.index != torch.cuda.current_device():  # Triton launches on the current device
        with torch.cuda.device(x.device):
            return hyper_linear(x, codes, codebook, outliers, outlier_starts, far, bias, compute)
    *leading, in_features = x.shape
    rows = (x if len(leading) == 1 else x.reshape(x.numel() // max(in_features, 1), in_features)).contiguous()
    codes, outliers, bias = codes.contiguous(), outliers.contiguous(), None if bias is None else bias.contiguous()
    operands = codes, codebook, outliers
    count, size, gpu = rows.shape[0], codes.numel(), gpu_of(x.device)
    has_kernel = codes.dtype == torch.int8 and x.dtype != torch.float64 and count and size and gpu.has_products
    if has_kernel and count <= few_rows.MAX_ROWS and outliers.shape[0] <= FEW_OUTLIERS * size / 2:
        y = _few_rows(rows, *operands, outlier_starts, bias, gpu)
    elif has_kernel and compute == "int8" and far.shape[0] <= MAX_FAR and codes.shape[1] <= MAX_INTEGER_WIDTH:
        y = _integer(rows, *operands, far, bias, gpu)
    else:
        y = _decoded(rows, *operands, bias)
    return y if len(leading) == 1 else y.view(*leading, codes.shape[0])


def _decoded(x: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, dense.decode(codes, codebook, outliers, x.shape[1], x.dtype), bias)


def _few_rows(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    outliers: Tensor,
    outlier_starts: Tensor,
    bias: Tensor | None,
    gpu: Gpu,
) -> Tensor:
    """Multiply without decoding, or with decoding where that is faster on this GPU."""
    precision = _precision(x)

    def launch(tile: Tile | None) -> Tensor:
        if tile is None:
            return _decoded(x, codes, codebook, outliers, bias)
        return few_rows.few_rows(x, codes, codebook, outliers, outlier_starts, bias, tile=tile, precision=precision)

    def offer() -> list[Tile | None]:
        fused = few_rows.tiles_for(x.shape[0], codes.shape[0], codes.shape[1] // 2, x.element_size(), gpu)
        return [*fused, None] if x.shape[0] <= FEW_ROWS else [None, *fused]

    return launch(tuning.choose(gpu, "few_rows", x, codes.shape[0], precision, offer, launch))


def _integer(
    x: Tensor, codes: Tensor, codebook: Tensor, outliers: Tensor, far: Tensor, bias: Tensor | None, gpu: Gpu
) -> Tensor:
    precision, has_correction = _precision(x), x.dtype == torch.float32 and far.shape[0] > 0

    def launch(tile: Tile | None) -> Tensor:
        assert tile is not None
        return integer.integer_product(x, codes, codebook, outliers, far, bias, tile=tile, precision=precision)

    def offer() -> list[Tile]:
        return integer.tiles_for(x.shape[0], codes.shape[0], gpu, has_correction=has_correction)

    kernel = "integer, corrected" if has_correction else "integer"
    return launch(tuning.choose(gpu, kernel, x, codes.shape[0], precision, offer, launch))


def _precision(x: Tensor) -> str:
    """Return how products of float32 `x` are computed. Asking torch is slow, so other dtypes do not ask."""
    return float32_precision() if x.dtype == torch.float32 else "ieee"
