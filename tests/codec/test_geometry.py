from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bhk.codec import geometry as module
from bhk.codec.codebook import Codebook, Codes
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.elements import BIT_TYPES
from bhk.codec.geometry import Decoder, Planes
from bhk.codec.shape import CODED_DTYPES
from bhk.codec.tensor import tensor_bytes
from bhk.codec.trajectory import MAX_SIDE, MIN_SIDE, Lattice


def _random(codebook: Codebook, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.random.default_rng(count).integers(0, codebook.code_count, count).astype(np.uint32)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    side=st.floats(MIN_SIDE, MAX_SIDE, width=32) | st.floats(2.0**-9, 2.0**9, width=32),
    windings=st.integers(1, 256),
    lattice=st.sampled_from(["centred", "corner", "grid"]),
    centre=st.tuples(*[st.floats(-1, 1, width=32)] * 2),
    shells=st.integers(0, 255),
    reach=st.floats(0, 1, width=32),
    count=st.integers(1, 5000),
    dtype=st.sampled_from(CODED_DTYPES),
)
def test_numpy_decodes_to_the_bits_of_torch(
    side: float,
    windings: int,
    lattice: Lattice,
    centre: tuple[float, float],
    shells: int,
    reach: float,
    count: int,
    dtype: str,
) -> None:
    codebook = Codebook(centre, side, windings, shells, reach if shells else 0.0, lattice)
    assume(codebook.is_valid)
    scalars = _random(codebook, count)
    planes = Planes.from_scalars(scalars, windings, shells)
    pairs = np.empty((count, 2), dtype=BIT_TYPES[dtype])
    Decoder(codebook, dtype, count).decode_into(planes, pairs)
    expected = torch.empty(count, 2, dtype=TORCH_DTYPES[dtype])
    codebook.decode_into(Codes.from_scalars(torch.from_numpy(scalars.astype(np.int64)), windings, shells), expected)
    assert pairs.tobytes() == tensor_bytes(expected).tobytes()


@pytest.mark.parametrize("dtype", CODED_DTYPES)
@pytest.mark.parametrize("shells", [0, 3])
def test_blocks_and_the_table_change_nothing(dtype: str, shells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codebook = Codebook((0.25, -0.5), 0.5, 7, shells, 0.125 if shells else 0.0)
    planes = Planes.from_scalars(_random(codebook, 50), 7, shells)
    found = []
    for count, block in [(49, 1 << 17), (50, 1 << 17), (50, 7)]:  # the first computes every pair
        monkeypatch.setattr(module, "BLOCK_PAIRS", block)
        pairs = np.empty((50, 2), dtype=BIT_TYPES[dtype])
        Decoder(codebook, dtype, count).decode_into(planes, pairs)
        found.append(pairs.tobytes())
    assert found[0] == found[1] == found[2]


def test_planes_of_some_pairs() -> None:
    planes = Planes.from_scalars(np.arange(20), 3, 2)
    assert len(planes[4:9]) == 5
    some = planes[np.array([10, 19])]
    assert some.shell is not None
    assert (some.winding.tolist(), some.phase.tolist(), some.shell.tolist()) == ([0, 0], [1, 1], [1, 2])
    assert planes[2:3].shell is not None
    assert Planes.from_scalars(np.arange(9), 3, 0)[:4].shell is None
