from __future__ import annotations

import math

import pytest
import torch

from bhk.codec.difference import BLOCK, compare


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([[1.0, float("nan")], [float("inf"), -0.0]]),
        torch.tensor(2.0, dtype=torch.bfloat16),
        torch.zeros(0, 3),
        torch.arange(5),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.ones(3).to(torch.float8_e4m3fn),
    ],
)
def test_a_tensor_equals_itself(tensor: torch.Tensor) -> None:
    found = compare(tensor, tensor.clone())
    assert (found.equal, found.max_abs) == (True, 0)
    assert not found.snr_db < math.inf  # NaN where the tensor itself is not finite


def test_equal_means_bit_for_bit() -> None:
    assert not compare(torch.tensor([0.0]), torch.tensor([-0.0])).equal
    assert compare(torch.tensor([0.0]), torch.tensor([-0.0])).max_abs == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32, torch.complex64])
def test_the_largest_difference_and_the_ratio_of_powers(dtype: torch.dtype) -> None:
    found = compare(torch.tensor([3, 0, 4, 0]).to(dtype), torch.tensor([3, 0, 4, 2]).to(dtype))
    assert not found.equal
    assert found.max_abs == 2
    assert found.snr_db == pytest.approx(10 * math.log10(25 / 4))


@pytest.mark.parametrize(
    ("dtype", "bits", "other", "largest"),
    [
        (torch.float8_e4m3fn, [0x38, 0x40], [0x38, 0x44], 1.0),  # 1 and 2; 1 and 3
        (torch.float8_e5m2, [0x3C, 0x40], [0x3C, 0x42], 1.0),
        (torch.float8_e8m0fnu, [127, 128], [127, 130], 6.0),  # powers of two
        (
            torch.float4_e2m1fn_x2,
            [0x21, 0x07],
            [0x21, 0x9F],
            12.0,
        ),  # 6 and -6 in the lower half, 0 and -0.5 in the upper
        (torch.complex32, [0, 0x3C, 0, 0], [0, 0x3C, 0, 0x42], 3.0),  # 1 + 0i and 1 + 3i
    ],
)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_small_dtypes_have_differences(dtype: torch.dtype, bits: list[int], other: list[int], largest: float) -> None:
    found = compare(*(torch.tensor(each, dtype=torch.uint8).view(dtype) for each in (bits, other)))
    assert (found.equal, found.max_abs) == (False, largest)


def test_differences_of_bytes_and_flags_do_not_wrap() -> None:
    assert compare(torch.tensor([1], dtype=torch.uint8), torch.tensor([3], dtype=torch.uint8)).max_abs == 2
    assert compare(torch.tensor([True]), torch.tensor([False])).max_abs == 1


def test_nothing_finite_comes_of_nan() -> None:
    found = compare(torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("nan")]))
    assert not found.equal
    assert math.isnan(found.max_abs)
    assert math.isnan(found.snr_db)


def test_every_block_counts() -> None:
    reference = torch.zeros(2 * BLOCK + 3, dtype=torch.uint8)
    for place in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 2):
        other = reference.clone()
        other[place] = 7
        found = compare(reference, other)
        assert (found.equal, found.max_abs, found.snr_db) == (False, 7, -math.inf)


def test_a_stride_is_no_difference() -> None:
    tensor = torch.arange(12.0).view(3, 4)
    assert compare(tensor, tensor.T.contiguous().T).equal
