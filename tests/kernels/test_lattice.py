from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from bhk.kernels.lattice import paired


def test_aligned_pairs_are_taken_as_they_are() -> None:
    x = torch.randn(5, 6)
    assert paired(x) is x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_odd_number_of_features_gets_a_zero(dtype: torch.dtype) -> None:
    x = torch.randn(5, 7).to(dtype)
    assert torch.equal(paired(x), torch.cat([x, torch.zeros(5, 1, dtype=dtype)], dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pairs_that_cross_a_word_are_copied(dtype: torch.dtype) -> None:
    x = torch.randn(31).to(dtype)[1:].view(5, 6)
    found = paired(x)
    assert torch.equal(found, x)
    assert found.data_ptr() % (2 * x.element_size()) == 0
