from __future__ import annotations

import pytest

from bhk.nn.diagnosis import find_prefix


@pytest.mark.parametrize(
    ("names", "wanted", "prefix"),
    [
        (["a.w", "a.b"], ["a.w", "a.b"], ""),
        (["net.a.w", "net.a.b", "step"], ["a.w", "a.b"], "net."),
        (["module.net.a.w"], ["a.w"], "module.net."),
        (["x.0.w", "x.1.w", "x.2.w"], ["0.w", "1.w", "2.w", "3.w"], "x."),
        (["x.0.w", "y.1.w"], ["0.w", "1.w", "2.w"], None),
        (["neta.w"], ["a.w"], None),
        (["a.w"], ["net.a.w"], None),
        ([], ["a.w"], None),
        (["a.w"], [], None),
    ],
)
def test_the_prefix_that_fits_most_names_is_found(names: list[str], wanted: list[str], prefix: str | None) -> None:
    assert find_prefix(names, wanted) == prefix
