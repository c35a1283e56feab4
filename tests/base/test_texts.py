from __future__ import annotations

import math

import pytest

from bhk.base.texts import choices, counted, number, printable, scientific, size, times_smaller


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks.0 ü 模型", "blocks.0 ü 模型"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\tb\r\n\x00\x7f", "a\\tb\\r\\n\\x00\\x7f"),
        ("a\u202eb\u200b\udcff\U000e0041", "a\\u202eb\\u200b\\udcff\\U000e0041"),
        ("back\\slash 'quotes\"", "back\\slash 'quotes\""),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_345, "12.3 kB"), (999_499, "999 kB"), (999_500, "1 MB"),
        (357_000_000, "357 MB"), (999_600_000, "1.00 GB"), (2_564_550_879, "2.56 GB"), (10**13, "10000.00 GB"),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(count: int, text: str) -> None:
    assert size(count) == text


def test_figures() -> None:
    assert [number(value) for value in (None, math.nan, math.inf)] == ["–", "–", "∞"]
    assert [number(1.005, 1), number(2, 0), number(3.14159, 3, " dB")] == ["1.0", "2", "3.142 dB"]
    assert [scientific(None), scientific(math.nan), scientific(0), scientific(0.01234)] == ["–", "–", "0", "1.23e-02"]


def test_numbers_of_things() -> None:
    assert [counted(1, "picture"), counted(1200, "picture"), counted(2, "box", "boxes")] == [
        "1 picture",
        "1,200 pictures",
        "2 boxes",
    ]


def test_ratios_name_float32_where_the_original_is_not() -> None:
    assert times_smaller(2_000_000, 7_400_000, 7_400_000) == "3.70 times smaller than 7.4 MB"
    assert times_smaller(2_000_000, 7_400_000, 14_800_000) == "3.70 times smaller than 7.4 MB (7.40 than float32)"


def test_choices_as_people_write_them() -> None:
    assert choices(("exact", "int8")) == "'exact' or 'int8'"
    assert choices(["auto", "hyper", "dense"]) == "'auto', 'hyper' or 'dense'"
