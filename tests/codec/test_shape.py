from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.codec.shape import Pairing, Shape

_SHAPES = st.tuples(st.lists(st.integers(1, 7), max_size=4).map(tuple), st.sampled_from(["rows", "flat"])).filter(
    lambda drawn: drawn[1] == "flat" or len(drawn[0]) >= 2
)


@settings(deadline=None, derandomize=True)
@given(_SHAPES)
def test_join_undoes_split(drawn: tuple[tuple[int, ...], Pairing]) -> None:
    shape = Shape(*drawn)
    tensor = torch.arange(shape.numel, dtype=torch.float32).reshape(shape.dims)
    pairs = shape.split(tensor)
    assert pairs.shape == (shape.count, 2)
    assert torch.equal(shape.join(pairs), tensor)
    assert shape.join(pairs).is_contiguous()


def test_rows_are_paired_along_the_last_dimension() -> None:
    shape = Shape((2, 2, 3), "rows")
    pairs = shape.split(torch.arange(12.0).reshape(2, 2, 3))
    assert (shape.rows, shape.row, shape.row_pairs, shape.count, shape.padded) == (4, 3, 2, 8, True)
    assert pairs[:, 0].tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    assert pairs[::2, 1].tolist() == [1, 4, 7, 10]


def test_flat_is_one_row_in_row_major_order() -> None:
    shape = Shape((3, 5), "flat")
    pairs = shape.split(torch.arange(15.0).reshape(5, 3).T)
    assert (shape.rows, shape.row, shape.count, shape.padded) == (1, 15, 8, True)
    assert pairs.reshape(-1)[:15].tolist() == [3 * j + i for i in range(3) for j in range(5)]


@pytest.mark.parametrize("pairing", ["rows", "flat"])
def test_even_rows_are_paired_without_a_copy(pairing: Pairing) -> None:
    tensor = torch.zeros(3, 4)
    assert Shape((3, 4), pairing).split(tensor).data_ptr() == tensor.data_ptr()


def test_the_padding_weight_is_the_mean_of_the_second_weights() -> None:
    pairs = Shape((2, 5), "rows").split(torch.tensor([[9.0, 1, 9, 2, 9], [9, 3, 9, 6, 9]]))
    assert pairs[2::3].tolist() == [[9, 3], [9, 3]]
    assert Shape((3, 1), "rows").split(torch.ones(3, 1)).tolist() == [[1, 0]] * 3
    assert Shape((), "flat").split(torch.tensor(4.0)).tolist() == [[4, 0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_padding_of_a_constant_is_the_constant(dtype: torch.dtype) -> None:
    tensor = torch.full((333, 777), 0.1, dtype=dtype)
    pairs = Shape((333, 777), "rows").split(tensor)
    assert pairs.dtype == dtype
    assert bool((pairs.float() == tensor.float()[0, 0]).all())


@pytest.mark.parametrize("pairing", ["rows", "flat"])
@pytest.mark.parametrize("dims", [(3, 5), (4, 1), (3, 4)])
@pytest.mark.parametrize("block", [1, 2, 5, 100])
def test_padding_is_cleared_wherever_a_block_starts(dims: tuple[int, int], pairing: Pairing, block: int) -> None:
    shape = Shape(dims, pairing)
    pairs = shape.split(torch.ones(dims)) + 1
    for start in range(0, shape.count, block):
        shape.clear_padding(pairs[start : start + block], start)
    assert int((pairs == 0).sum()) == shape.rows * shape.padded
    assert torch.equal(shape.join(pairs), torch.full(dims, 2.0))
