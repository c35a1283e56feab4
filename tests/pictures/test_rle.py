from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from bhk.pictures.rle import decode, encode, runs

_MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def _by_definition(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """Encode a mask pixel by pixel, down one column after the other, as the format defines it."""
    height, width = rle["size"]
    mask = np.zeros((height, width), dtype=bool)
    place, value = 0, False
    for count in rle["counts"]:
        for _ in range(count):
            mask[place % height, place // height] = value
            place += 1
        value = not value
    assert place == height * width
    return mask


@given(_MASKS)
def test_the_definition_restores_the_mask(mask: NDArray[np.bool_]) -> None:
    rle = encode(mask)
    assert (_by_definition(rle) == mask).all()
    assert (decode(rle) == mask).all()
    assert all(count > 0 for count in rle["counts"][1:])


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 0], [0, 0], [0, 0]], [6]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 1], [0, 1], [1, 0]], [2, 3, 1]),  # columns 001 and 110
        ([[1, 0], [0, 0]], [0, 1, 3]),
        ([[1]], [0, 1]),
    ],
)
def test_runs_go_down_the_columns_and_begin_with_zeros(mask: list[list[int]], counts: list[int]) -> None:
    array = np.array(mask, dtype=bool)
    assert encode(array) == {"size": list(array.shape), "counts": counts}


def test_a_view_in_another_order_is_the_same_mask() -> None:
    mask = np.random.default_rng(0).random((7, 5)) > 0.5
    assert encode(mask.T) == encode(np.ascontiguousarray(mask.T))


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # in pycocotools
@given(_MASKS)
def test_pycocotools_reads_it(mask: NDArray[np.bool_]) -> None:
    coco: Any = pytest.importorskip("pycocotools.mask")
    rle = encode(mask)
    assert (coco.decode(coco.frPyObjects(rle, *rle["size"])) == mask).all()


@given(_MASKS)
def test_runs_are_the_counts(mask: NDArray[np.bool_]) -> None:
    assert runs(mask).tolist() == encode(mask)["counts"]
    assert runs(mask)[1::2].sum() == mask.sum()
