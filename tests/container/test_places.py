from __future__ import annotations

import pytest

from bhk.container.places import align, place


def test_align() -> None:
    assert [align(offset) for offset in (0, 1, 63, 64, 65)] == [0, 64, 64, 64, 128]


@pytest.mark.parametrize(
    ("codec", "start"), [("none", 192), ("packed", 192), ("zstd", 130), ("shuffle+zstd", 130), ("new", 192)]
)
def test_streams_follow_each_other_only_behind_a_compressed_header(codec: str, start: int) -> None:
    assert place(codec, 130, compressed=True) == start
    assert place(codec, 130, compressed=False) == 192
    assert place(codec, 128, compressed=True) == place(codec, 128, compressed=False) == 128
