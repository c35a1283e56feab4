from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bhk.kernels import few_rows
from bhk.kernels.gpu import Gpu

# out, width, windings, shells, outliers: odd sizes, more than a tile of everything, outliers in many tiles
_LATTICES = [
    (1, 1, 256, 0, 0),
    (40, 33, 200, 3, 3),
    (70, 131, 255, 9, 23),
    (65, 260, 7, 255, 42),
    (33, 1040, 256, 5, 80),
    (17, 2, 1, 0, 0),
]
# The interpreter takes its time for each row, so not every lattice is tried with many.
_CASES = [
    *((1, torch.float32, lattice) for lattice in _LATTICES),
    *((17, torch.float16, lattice) for lattice in _LATTICES),
    *((66, torch.float32, lattice) for lattice in _LATTICES[:3]),
]


@pytest.mark.parametrize(("rows", "dtype", "lattice"), _CASES)
def test_few_rows_are_exact(
    random_weight, relative, draw, fenced, rows: int, dtype: torch.dtype, lattice: tuple[int, ...]
) -> None:
    out, width, windings, shells, outliers = lattice
    weight = random_weight(out, width, windings, shells, outliers=outliers)
    x, bias = draw(weight, rows, dtype)
    codes, codebook, lists, starts, _ = map(fenced, weight.operands)
    for processors, given in ((1, bias), (200, None)):
        tile, *_ = few_rows.tiles_for(
            rows, out, codes.shape[1] // 2, x.element_size(), Gpu("H100", processors, 227 << 10)
        )
        y = few_rows.few_rows(x, codes, codebook, lists, starts, given, tile=tile, precision="ieee")
        exact = weight.product(x, given)
        limit = 1e-6
        if dtype == torch.float16:
            limit = 1e-5 + 1.3 * relative(functional.linear(x, weight.dense.half(), given), exact)
        assert (y.shape, y.dtype) == ((rows, out), dtype)
        assert relative(y, exact) <= limit
