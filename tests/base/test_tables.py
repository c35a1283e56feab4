from __future__ import annotations

from bhk.base.tables import table


def test_a_table_is_aligned_text() -> None:
    columns = [("name", "left"), ("size", "right")]
    assert table(columns, [("a", "1"), ("blocks\n", "20,000")], ["total", "3"]).splitlines() == [
        "name        size",
        "────────────────",
        "a              1",
        "blocks\\n  20,000",
        "────────────────",
        "total          3",
    ]


def test_a_table_without_rows_has_its_head() -> None:
    assert table([("name", "left"), ("size", "right")], []).splitlines() == ["name  size", "──────────"]
