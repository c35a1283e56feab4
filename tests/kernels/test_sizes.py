from __future__ import annotations

import pytest

from bhk.kernels.sizes import ceil_div, power_of_2


@pytest.mark.parametrize(
    ("number", "pieces", "power"), [(1, 1, 1), (7, 1, 8), (8, 2, 8), (14, 2, 16), (1025, 147, 2048)]
)
def test_rounding_up(number: int, pieces: int, power: int) -> None:
    assert ceil_div(number, 7) == pieces
    assert power_of_2(number) == power
