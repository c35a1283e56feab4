from __future__ import annotations

import pytest
import torch

from bhk.kernels import integer
from bhk.kernels.gpu import Gpu


# lattice: out, width, windings, shells, outliers. The interpreter takes 40 ms a row here, so not every pair is tried.
@pytest.mark.parametrize(
    ("rows", "dtype", "lattice"),
    [
        (1, torch.float32, (1, 1, 256, 0, 0)),
        (66, torch.float32, (70, 131, 255, 9, 23)),
        (5, torch.float16, (40, 33, 200, 3, 3)),
        (9, torch.float16, (33, 1040, 256, 5, 80)),
        (3, torch.float32, (65, 260, 7, 255, 42)),
    ],
)
def test_integer_products_round_each_row_to_a_byte(
    random_weight, relative, draw, fenced, rows: int, dtype: torch.dtype, lattice: tuple[int, ...]
) -> None:
    out, width, windings, shells, count = lattice
    weight = random_weight(out, width, windings, shells, outliers=count)
    x, bias = draw(weight, rows, dtype)
    x[rows // 2] = 0
    codes, codebook, outliers, _, far = map(fenced, weight.operands)
    tile, *_ = integer.tiles_for(rows, out, Gpu("H100", 1, 227 << 10), has_correction=True)
    for given in (bias, None):
        y = integer.integer_product(x, codes, codebook, outliers, far, given, tile=tile, precision="ieee")
        # A few activations lie half-way between two steps and may be rounded either way.
        limit = 2e-4 if dtype == torch.float32 else 5e-4
        assert (y.shape, y.dtype) == ((rows, out), dtype)
        assert relative(y, weight.rounded_product(x, given, 127)) <= limit
        assert torch.equal(y[rows // 2], torch.zeros(out, dtype=dtype) if given is None else given)
