from __future__ import annotations

import math

import pytest

from bhk.codec.fit import PresetError
from bhk.conversion.quality import Quality


def test_patterns_may_be_one_text_or_any_iterable() -> None:
    quality = Quality(exact="a.*", only=(name for name in ("b", "c")))  # type: ignore[arg-type]
    assert (quality.exact, quality.only) == (("a.*",), ("b", "c"))


def test_later_changes_of_a_dictionary_do_not_reach_it() -> None:
    snr_for = {"a": 20.0}
    quality = Quality(snr_for=snr_for)
    snr_for["b"] = 30.0
    assert quality.snr_for == {"a": 20.0}


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        (Quality("small"), "small"),
        (Quality(snr_db=30), "30 dB"),
        (Quality(ratio=7.5), "ratio 7.5"),
        (Quality(fidelity=0.99), "mask IoU 0.99"),
    ],
)
def test_what_was_asked_for_in_words(quality: Quality, words: str) -> None:
    assert quality.asked == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "best"}, "unknown preset 'best'; choose one of fine, balanced, small, birkhoff"),
        ({"snr_db": 20, "ratio": 5}, "give one of them"),
        ({"fidelity": 0.9, "ratio": 5}, "both ratio and fidelity were given; give one of them"),
        ({"fidelity": 1.0}, "a mask IoU of 1 was asked for; it must be between 0 and 1"),
        ({"snr_db": 43}, "choose 3 to 42 dB"),
        ({"snr_db": math.nan}, "choose 3 to 42 dB"),
        ({"snr_for": {"*": 2.0}}, "choose 3 to 42 dB"),
        ({"preset": "birkhoff", "snr_db": 20}, "one quality"),
        ({"preset": "birkhoff", "ratio": 5}, "one quality"),
        ({"preset": "birkhoff", "snr_for": {"*": 20.0}}, "one quality"),
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, object], message: str) -> None:
    with pytest.raises(PresetError, match=message):
        Quality(**options)  # type: ignore[arg-type]
