from __future__ import annotations

import pytest

pytest.importorskip("triton")

from bhk.kernels.tuning import Measured, Problem, Tile
from tools.keep_tiles import merged


def _row(gpu: str, rows: int, microseconds: float) -> Measured:
    return Measured(gpu, Problem("few_rows", "float16", rows, 8, 8), Tile(16, 64, 64, 1, 4, 3), microseconds, 9.0)


def test_fresh_lines_count_and_lines_are_in_order() -> None:
    shipped = [_row("B", 1, 1.0), _row("A", 16, 2.0)]
    fresh = [_row("A", 16, 3.0), _row("A", 1, 4.0), _row("A", 16, 5.0)]
    assert merged(shipped, fresh) == [_row("A", 1, 4.0), _row("A", 16, 5.0), _row("B", 1, 1.0)]
