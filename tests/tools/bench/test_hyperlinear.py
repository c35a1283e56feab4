from __future__ import annotations

from pathlib import Path

import pytest

from tools.bench.ceilings import Ceilings
from tools.bench.frame.benchmark import Run
from tools.bench.hyperlinear import Case, cases, measure, with_floor

CEILINGS = Ceilings({"copy": 1e12, "bfloat16": 1e14, "float16": 1e14, "float32": 1e13, "tf32": 5e13, "int8": 2e14})


def test_sides_hold_the_same_weights(tmp_path: Path) -> None:
    rows = measure(Case(130, 66, 5), Run(tmp_path, tmp_path))
    assert [row["side"] for row in rows] == ["dense", "exact", "int8"]
    for row in rows:
        assert float(str(row["ms"])) > 0
        assert float(str(row["error"])) < 1e-5
    assert rows[0]["bits_per_weight"] == "32.00"
    assert float(str(rows[1]["bits_per_weight"])) < 9


@pytest.mark.parametrize(
    ("side", "dtype", "rows", "bits", "floor_ms"),
    [
        ("dense", "bfloat16", 1, "16.00", 2 * 1000 * 1000 / 1e9),  # bytes of the weight
        ("exact", "bfloat16", 1, "8.00", 1000 * 1000 / 1e9),
        ("exact", "bfloat16", 100_000, "8.00", 2e11 / 1e11),  # operations
        ("int8", "bfloat16", 100_000, "8.00", 2e11 / 2e11),
        ("dense", "tf32", 100_000, "32.00", 2e11 / 5e10),
    ],
)
def test_the_floor_is_that_of_bytes_or_of_operations(
    side: str, dtype: str, rows: int, bits: str, floor_ms: float
) -> None:
    row: dict[str, object] = {"in": 1000, "out": 1000, "rows": rows, "dtype": dtype, "side": side, "ms": "4.0"}
    found = with_floor({**row, "bits_per_weight": bits}, CEILINGS)
    assert float(str(found["floor_ms"])) == pytest.approx(floor_ms, rel=0.01)
    assert float(str(found["share"])) == pytest.approx(floor_ms / 4, rel=0.01)


def test_cases_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    for device in ("cpu", "cuda"):
        found = [
            (case.in_features, case.out_features, case.rows, case.kind, case.cold, case.others)
            for case in cases(Run(tmp_path, tmp_path, device))
        ]
        assert len(set(found)) == len(found) > 10
