from __future__ import annotations

import pytest

from bhk.codec.fit import PresetError
from bhk.conversion.fidelity_search import lowest_level


def test_the_search_ends_just_above_what_is_wanted() -> None:
    asked: list[float] = []

    def loss(snr: float) -> float:
        asked.append(snr)
        return float(10 ** (-(snr - 2) / 17))

    snr = lowest_level(loss, 0.05, (3.0, 42.0), lambda *_: None)
    assert 0.0475 <= loss(snr) <= 0.05
    assert len(asked) <= 6


def test_a_fidelity_out_of_reach() -> None:
    with pytest.raises(PresetError, match=r"a mask IoU of 0\.99 was asked for; this model reaches 0\.5000 at most"):
        lowest_level(lambda snr: 0.5, 0.01, (3.0, 42.0), lambda *_: None)
