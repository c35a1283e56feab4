from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as peer

from bhk.evaluation.annotations.segmentation import Rle, encode, expand, read_segmentation
from bhk.evaluation.faults import FaultKind
from bhk.pictures import rle

_SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]


def _read(segmentation: Any, height: int = 7, width: int = 9) -> tuple[Rle | None, list[FaultKind]]:
    faults: list[FaultKind] = []
    return read_segmentation(json.dumps(segmentation).encode(), height, width, faults.append), faults


@settings(deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_masks_decode_the_same_here_and_in_pycocotools(mask: Any) -> None:
    found = encode(mask)
    assert np.array_equal(found.decode(), mask)
    assert found.area == mask.sum()
    assert np.array_equal(peer.decode({"size": mask.shape, "counts": found.counts.encode()}), mask)


@settings(deadline=None)
@given(st.text(max_size=12))
def test_malformed_counts_are_refused(text: str) -> None:
    try:
        counts = expand(text)
    except ValueError:
        return
    assert all(isinstance(count, int) for count in counts)


def test_polygons_fill_what_pycocotools_fills() -> None:
    polygons = [_SQUARE, [7.0, 0.0, 9.0, 0.0, 8.0, 6.5]]
    found, faults = _read(polygons)
    assert found is not None
    assert np.array_equal(found.decode(), peer.decode(peer.merge(peer.frPyObjects(polygons, 7, 9))))
    assert not faults


def test_run_lengths_plain_and_compressed() -> None:
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    for segmentation in (rle.encode(mask), encode(mask).plain()):
        found, faults = _read(segmentation)
        assert found is not None
        assert np.array_equal(found.decode(), mask)
        assert not faults


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([[1, 1, 5, 5]], FaultKind.SHORT_POLYGON),
        ([[1, 1, 5, 1, 5, 5, 2]], FaultKind.ODD_POLYGON),
        ([["a", 1, 5, 1, 5, 5]], FaultKind.MALFORMED_SEGMENTATION),
        ([[1e300, 1, 5, 1, 5, 5]], FaultKind.POLYGON_OUT_OF_BOUNDS),
        ([[-3, 1, 5, 1, 5, 5]], FaultKind.POLYGON_OUT_OF_BOUNDS),
    ],
)
def test_a_faulty_polygon_is_reported_and_the_others_count(segmentation: list[Any], kind: FaultKind) -> None:
    found, faults = _read([*segmentation, _SQUARE])
    assert faults == [kind]
    assert found is not None
    assert found.area >= 16


@pytest.mark.parametrize(
    ("segmentation", "kinds"),
    [
        ([], [FaultKind.EMPTY_MASK]),
        ([[1, 1, 5, 5]], [FaultKind.SHORT_POLYGON, FaultKind.EMPTY_MASK]),
        ([[1, 1, 1, 1, 1, 1]], [FaultKind.EMPTY_MASK]),
        ([[10**400, 1, 5, 1, 5, 5]], [FaultKind.MALFORMED_SEGMENTATION, FaultKind.EMPTY_MASK]),
        (None, [FaultKind.MALFORMED_SEGMENTATION]),
        ({"size": [7, 9]}, [FaultKind.MALFORMED_SEGMENTATION]),
        ({"size": [7, 9], "counts": [60, -3, 6]}, [FaultKind.MALFORMED_SEGMENTATION]),
        ({"size": [7, 9], "counts": "\x00"}, [FaultKind.MALFORMED_SEGMENTATION]),
        ({"size": [7, 9], "counts": [62]}, [FaultKind.RLE_LENGTH]),
        ({"size": [9, 7], "counts": [60, 3]}, [FaultKind.RLE_LENGTH]),
        ({"size": [7, 9], "counts": "o1"}, [FaultKind.EMPTY_MASK]),
        ({"size": [7, 9], "counts": "n1"}, [FaultKind.RLE_LENGTH]),
    ],
)
def test_a_segmentation_without_a_mask_says_why(segmentation: Any, kinds: list[FaultKind]) -> None:
    found, faults = _read(segmentation)
    assert found is None
    assert faults == kinds


@pytest.mark.parametrize("text", [b"[" * 100_000 + b"]" * 100_000, b'"\xff"', b'{"size": [7, 9], "counts": "\xff"}'])
def test_a_segmentation_that_is_not_json(text: bytes) -> None:
    faults: list[FaultKind] = []
    assert read_segmentation(text, 7, 9, faults.append) is None
    assert faults == [FaultKind.MALFORMED_SEGMENTATION]
