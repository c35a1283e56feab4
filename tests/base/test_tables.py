from __future__ import annotations

import pytest

from bhk.base.screen import Screen
from bhk.base.tables import Column, Table

_WIDE = Table(
    (
        Column("tensor", "left", least=12),
        Column("shape", rank=1),
        Column("dtype", "left", rank=2, meaning="data type"),
        Column("bytes"),
    ),
    [("image_encoder.blocks.0.weight", "768×192", "F32", "67,317"), ("a", "1", "F16", "2")],
    ("total", "", "", "67,319"),
)


def test_a_table_is_aligned_text() -> None:
    table = Table((Column("name", "left"), Column("size")), [("a", "1"), ("blocks\n", "20,000")], ["total", "3"])
    assert table.text().splitlines() == [
        "name        size",
        "────────────────",
        "a              1",
        "blocks\\n  20,000",
        "────────────────",
        "total          3",
    ]


def test_a_table_without_rows_has_its_head() -> None:
    assert Table((Column("name", "left"), Column("size")), []).text().splitlines() == ["name  size", "──────────"]


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (None, "image_encoder.blocks.0.weight  768×192  F32    67,317"),
        (53, "image_encoder.blocks.0.weight  768×192  F32    67,317"),
        (40, "image…s.0.weight  768×192  F32    67,317"),
        (30, "imag…0.weight  768×192  67,317"),
        (20, "imag….weight  67,317"),
    ],
)
def test_a_narrow_screen_shortens_names_and_leaves_out_columns_by_rank(width: int | None, row: str) -> None:
    lines = _WIDE.text(Screen(width)).splitlines()
    assert lines[2] == row
    assert width is None or max(map(len, lines)) <= width


def test_notes_below_a_table_name_what_was_left_out_and_explain_titles() -> None:
    assert _WIDE.text().splitlines()[-1] == "dtype: data type"
    assert _WIDE.text(Screen(30)).splitlines()[-2:] == ["left out to fit 30 columns:", "  dtype"]


def test_a_screen_that_shows_ascii_only_gets_ascii_of_the_same_width() -> None:
    lines = _WIDE.text(Screen(40, "ascii")).splitlines()
    assert lines[1:3] == ["-" * 40, "image...0.weight  768x192  F32    67,317"]
