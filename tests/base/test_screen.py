from __future__ import annotations

import pytest

from bhk.base.screen import SPELLED, Screen


def test_a_long_line_continues_indented() -> None:
    assert Screen(20).paragraph("left out: shape, dtype, bits/w") == "left out: shape,\n  dtype, bits/w"
    assert Screen().paragraph("x " * 100) == "x " * 100


def test_a_word_is_never_broken() -> None:
    assert Screen(10).paragraph(f"sha256: {'a' * 64}") == f"sha256:\n  {'a' * 64}"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "0.95 … ∞ · 3×4 ≥ вес"),
        ("ascii", r"0.95 ... inf | 3x4 >= \u0432\u0435\u0441"),
        ("koi8-r", "0.95 ... inf · 3x4 ≥ вес"),
    ],
)
def test_characters_that_an_encoding_lacks_have_a_spelling(encoding: str, expected: str) -> None:
    assert Screen(encoding=encoding).shown("0.95 … ∞ · 3×4 ≥ вес") == expected


def test_control_characters_are_escaped() -> None:
    assert Screen().shown("a\x1b[31m\n") == "a\\x1b[31m\\n"


def test_a_file_name_that_is_not_unicode_can_be_shown() -> None:
    assert "n\udcff".encode("utf-8", SPELLED) == b"n\\udcff"


@pytest.mark.parametrize("width", [5, 8, 11])
def test_a_shortened_name_keeps_both_ends(width: int) -> None:
    short = Screen().shortened("blocks.0.weight", width)
    assert len(short) == width
    assert "blocks.0.weight".startswith(short.partition("…")[0])
    assert "blocks.0.weight".endswith(short.partition("…")[2])
    assert Screen().shortened("blocks", width=6) == "blocks"
