from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bhk.codec.trajectory import Lattice
from bhk.kernels import dense


@pytest.fixture
def decode(fenced):
    def decode(weight, dtype: torch.dtype) -> Tensor:
        return dense.decode(*map(fenced, weight.decode_operands), weight.width, dtype)

    return decode


_BOOKS = [
    (256, 0, "centred"),
    (255, 0, "centred"),
    (1, 0, "centred"),
    (256, 9, "centred"),
    (7, 255, "centred"),
    (256, 0, "corner"),
    (40, 3, "corner"),
    (35, 3, "corner"),
    (1, 1, "corner"),
    (256, 255, "corner"),
    (129, 255, "corner"),
    (200, 0, "grid"),
    (256, 9, "grid"),
    (7, 255, "grid"),
]


@pytest.mark.parametrize(("windings", "shells", "lattice"), _BOOKS)
@pytest.mark.parametrize(("out", "width"), [(1, 1), (2, 515), (17, 34), (130, 7)])
def test_decode_is_the_codec_bit_for_bit(
    random_weight, decode, windings: int, shells: int, lattice: Lattice, out: int, width: int
) -> None:
    pairs = out * ((width + 1) // 2)
    few = max(pairs // 200, 0)
    for outliers in {0, few, pairs // 2} if shells else {0}:
        weight = random_weight(out, width, windings, shells, outliers=outliers, lattice=lattice)
        assert torch.equal(decode(weight, torch.float32), weight.dense)


# The interpreter cuts bfloat16 off where a GPU rounds it; test_gpu.py has that dtype.
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("lattice", ["centred", "corner", "grid"])
def test_other_dtypes_are_rounded_from_float32(random_weight, decode, dtype: torch.dtype, lattice: Lattice) -> None:
    weight = random_weight(24, 135, 200, 9, outliers=8, lattice=lattice)
    assert torch.equal(decode(weight, dtype), weight.dense.to(dtype))


def test_more_outliers_than_one_program_writes(random_weight, decode) -> None:
    weight = random_weight(200, 1001, 99, 9, outliers=500)
    assert len(weight.resident.outliers) == 500 > dense.BLOCK_OUTLIERS
    assert torch.equal(decode(weight, torch.float32), weight.dense)
