from __future__ import annotations

import numpy as np
import pytest
import torch

from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.elements import BIT_TYPES, rounded, widened
from bhk.codec.shape import CODED_DTYPES
from bhk.codec.tensor import tensor_bytes
from bhk.container.header import DTYPES


def test_every_dtype_of_the_format_has_a_type_of_its_size() -> None:
    assert {name: np.dtype(kind).itemsize for name, kind in BIT_TYPES.items()} == DTYPES


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_every_number_that_numpy_lacks_is_widened_exactly(dtype: str) -> None:
    bits = np.arange(1 << 8 * DTYPES[dtype]).astype(BIT_TYPES[dtype])
    values = widened(bits, dtype)
    expected = torch.from_numpy(bits.view(np.uint8)).view(TORCH_DTYPES[dtype]).float().numpy()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)
    assert (np.signbit(values) == np.signbit(expected))[~np.isnan(values)].all()


def test_other_numbers_are_left_alone() -> None:
    for dtype in BIT_TYPES.keys() - {"BF16", "F8_E4M3", "F8_E5M2"}:
        bits = np.zeros(3, dtype=BIT_TYPES[dtype])
        assert widened(bits, dtype) is bits


@pytest.mark.parametrize("dtype", CODED_DTYPES)
def test_rounding_is_that_of_torch(dtype: str) -> None:
    patterns = np.random.default_rng(3).integers(0, 1 << 32, 200_000, dtype=np.uint32)
    ties = (patterns & 0xFFFF0000 | 0x8000)[:50_000]
    values = np.concatenate([patterns, ties, ties & 0xFFFFF000]).view(np.float32)
    values = values[np.isfinite(values)]
    expected = tensor_bytes(torch.from_numpy(values).to(TORCH_DTYPES[dtype]))
    assert rounded(values, dtype).tobytes() == expected.tobytes()
