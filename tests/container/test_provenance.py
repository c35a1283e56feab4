from __future__ import annotations

import pytest

from bhk.container.header import Header
from bhk.container.provenance import made_with, others

_PLAIN = {"conversion.quality": "balanced", "conversion.torch": "2.9", "conversion.zstandard": "0.25"}
_CALIBRATED = {
    "conversion.samples": "dead-leaves",
    "conversion.samples.count": "1",
    "conversion.seed": "3",
    "conversion.steps": "measured",
}


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ({}, "bhk 9"),
        ({"license": "mit"}, "bhk 9"),
        (_PLAIN, "bhk 9 · balanced · torch 2.9, zstandard 0.25"),
        (
            _PLAIN | {"conversion.exact": "*.neck.*", "conversion.snr_for": "30 dB for *.qkv"},
            "bhk 9 · balanced · exact *.neck.* · 30 dB for *.qkv · torch 2.9, zstandard 0.25",
        ),
        (_CALIBRATED, "bhk 9 · calibrated on dead-leaves, 1 sample, seed 3, steps measured"),
        ({"conversion.samples": "noise", "conversion.samples.count": "many"}, "bhk 9 · calibrated on noise"),
        ({"conversion.something": "else", "conversion.key": "ema"}, "bhk 9 · key ema"),
    ],
)
def test_one_line_says_how_a_file_was_made(entries: dict[str, str], line: str) -> None:
    assert made_with(Header("bhk 9", (), metadata=entries)) == line


def test_texts_of_a_stranger_are_cut_and_escaped() -> None:
    line = made_with(Header("bhk\x1b[31m", (), metadata={"conversion.quality": "\n" * 10, "conversion.key": "k" * 999}))
    assert line.isprintable()
    assert len(line) < 300


def test_other_entries_are_all_the_rest() -> None:
    assert others(_PLAIN | {"license": "mit", "conversions": "1"}) == {"license": "mit", "conversions": "1"}
