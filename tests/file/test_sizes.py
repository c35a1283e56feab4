from __future__ import annotations

import pytest

from bhk.container.header import LayerEntry
from bhk.file.sizes import float32_bytes


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("F64", 4), ("F32", 4), ("F16", 4), ("BF16", 4), ("F8_E4M3", 4), ("I64", 8), ("U8", 1), ("BOOL", 1), ("C64", 8)],
)
def test_only_floating_point_numbers_become_float32(dtype: str, size: int) -> None:
    others = LayerEntry("b", (10,), "F16", "bias", "exact")
    assert float32_bytes([LayerEntry("a", (3, 5), dtype, "linear", "exact"), others]) == 15 * size + 40
