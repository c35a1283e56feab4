from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhk.container.errors import HeaderFrameError
from bhk.container.header_frame import compress_text, header_length, max_frame_length, text_of
from container.memory import validate_all

VECTORS = Path(__file__).parents[2] / "format_spec" / "vectors"


@given(st.binary(min_size=2, max_size=3000) | st.binary(min_size=2, max_size=9).map(lambda part: part * 300))
def test_a_text_comes_back_and_its_frame_is_within_the_bound(text: bytes) -> None:
    frame = compress_text(text)
    assert len(frame) <= max_frame_length(len(text))
    data = frame.ljust(header_length(len(frame)), b"\0")
    assert (64 + len(data)) % 64 == 0
    assert len(data) - len(frame) < 64
    assert text_of(data, len(frame), "a.bhk") == text
    assert text_of(data, 0, "a.bhk") == data


@given(st.data())
def test_a_frame_that_is_cut_or_followed_by_something_is_refused(draw: st.DataObject) -> None:
    frame = compress_text(b'{"generator":"test","layers":[]}')
    length = draw.draw(st.integers(1, len(frame) + 8).filter(lambda length: length != len(frame)))
    with pytest.raises(HeaderFrameError, match=r"a\.bhk"):
        text_of(frame.ljust(length, b"\0"), length, "a.bhk")
    with pytest.raises(HeaderFrameError, match="zeros"):
        text_of(frame + b"\0\1", len(frame), "a.bhk")


@pytest.mark.parametrize("size", ["2_to_the_26_and_1", "2_to_the_62"])
def test_a_frame_that_declares_too_much_is_refused_before_anything_is_allocated(size: str) -> None:
    data = (VECTORS / "bad" / f"P8_declares_{size}.bhk").read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(HeaderFrameError, match="2 to 67108864 bytes"):
            validate_all(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
