"""The arithmetic of the text, written down twice: in tools/format_spec/decoding.py and in the codec."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.shape import Shape
from bhk.codec.tensor import decode, tensor_bytes
from bhk.codec.trajectory import float32
from bhk.container.errors import CodebookRangeError
from bhk.container.header import CodebookEntry, Header
from bhk.container.validate import validate
from bhk.file.codebooks import codebook_of
from tools.format_spec import decoding

_sizes = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(2.0**-14, 4, width=32)
_places = st.floats(-(2.0**120), 2.0**120, width=32) | st.floats(-1, 1, width=32)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 256),
    st.sampled_from(["centred", "corner", "grid"]),
    _sizes,
    st.tuples(_places, _places),
    st.integers(0, 255),
    _sizes,
    st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=40),
    st.sampled_from(["F64", "F32", "F16", "BF16"]),
    st.booleans(),
)
def test_codec_and_text_agree_bit_for_bit(
    windings: int,
    lattice: str,
    side: float,
    centre: tuple[float, float],
    shells: int,
    spacing: float,
    numbers: list[int],
    dtype: str,
    odd: bool,
) -> None:
    entry = CodebookEntry(centre, side, windings, lattice, shells, spacing if shells else 0.0)
    try:
        validate(Header("test", (), (entry,), ("grid-lattice",)), 64, 128, compressed=True)
    except CodebookRangeError:
        assume(False)
    codes = [number % ((shells + 1) * windings**2) for number in numbers]
    shape = [2 * len(codes) - odd]
    book = {"windings": windings, "lattice": lattice, "side": side, "centre": centre, "shells": shells}
    pairs = decoding.weights({**book, "spacing": entry.spacing}, codes)
    assert np.isfinite(pairs).all()
    planes = Codes.from_scalars(torch.tensor(codes, dtype=torch.int32), windings, shells)
    tensor = decode(codebook_of(entry, Codebook), planes, Shape(tuple(shape), "flat"), TORCH_DTYPES[dtype])
    assert tensor_bytes(tensor).tobytes() == decoding.tensor_bytes(pairs, shape, "flat", dtype)


@given(st.floats(width=64, allow_nan=False))
def test_float32_rounds_as_numpy_does(value: float) -> None:
    with np.errstate(over="ignore"):
        assert float32(value) == float(np.float32(value))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))
def test_rounding_to_bfloat16_is_that_of_torch(bits: list[int]) -> None:
    numbers = np.array(bits, dtype=np.uint32).view(np.float32)
    numbers = np.where(np.isnan(numbers), np.float32(1), numbers)
    pairs = np.stack([numbers, numbers], axis=1)
    expected = tensor_bytes(torch.from_numpy(pairs).to(torch.bfloat16)).tobytes()
    assert decoding.tensor_bytes(pairs, [pairs.size], "flat", "BF16") == expected


@given(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(["rows", "flat"]))
def test_pairs_are_counted_alike(sizes: list[int], pairing: str) -> None:
    assume(pairing == "flat" or len(sizes) > 1)
    assert decoding.pair_count(sizes, pairing) == Shape(tuple(sizes), "rows" if pairing == "rows" else "flat").count
