from __future__ import annotations

from tools.bench.frame.results import RESULTS, read_csv
from tools.sizes import Size, bench_sizes, complaints


def test_the_stated_ratio_of_the_demo_model_still_holds() -> None:
    size = next(size for size in bench_sizes() if size.setting == "balanced")
    assert list(complaints(size)) == []


def test_another_size_than_the_stated_one_is_named() -> None:
    stated = next(row["ratio"] for row in read_csv(RESULTS / "demo_sam.csv") if row["setting"] == "balanced")
    found = list(complaints(Size("demo SAM", "balanced", 14_821_376, 14_821_376 // 3)))
    assert found[0] == f"demo_sam.csv: demo SAM, balanced has a ratio of 3.000, not {stated}"
    assert len(found) == 2
