from __future__ import annotations

from tools.sizes import Size, bench_sizes, complaints


def test_the_stated_ratio_of_the_demo_model_still_holds() -> None:
    size = next(size for size in bench_sizes() if size.setting == "balanced")
    assert list(complaints(size)) == []


def test_another_size_than_the_stated_one_is_named() -> None:
    found = list(complaints(Size("demo SAM", "balanced", 14_821_376, 1_934_695)))
    assert found[0] == "demo_sam.csv: demo SAM, balanced has a ratio of 7.661, not 7.504"
    assert len(found) == 2
