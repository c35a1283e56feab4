from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bhk.evaluation.annotations import Category
from bhk.evaluation.annotations.segmentation import encode
from bhk.evaluation.average_precision import FoundMask, Scope, TrueMask, average_precision
from bhk.evaluation.intervals import drawings
from bhk.evaluation.resampled_precision import matched, resampled_ap

_SIDE = 60
_CATEGORIES = (Category(1, "a", "r"), Category(2, "b", "c"))


def _scopes(pictures: int) -> list[Scope]:
    return [Scope(7 * number - 3, _SIDE, _SIDE) for number in range(pictures)]


def _data(scopes: list[Scope], seed: int) -> tuple[list[TrueMask], list[FoundMask]]:
    """Return objects, some of them crowds, and masks of them that are shifted, missing, mislabelled or equally scored."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    y, x = np.mgrid[:_SIDE, :_SIDE]
    for scope in scopes:
        for _ in range(rng.integers(0, 6)):
            centre, radius = rng.uniform(5, 55, 2), rng.uniform(3, 15)
            mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            category, crowd = int(rng.integers(1, 3)), bool(rng.random() < 0.2)
            truths.append(TrueMask(scope.image, category, encode(mask), float(mask.sum()), crowd))
            for _ in range(rng.integers(0, 3)):
                moved = encode(np.roll(mask, rng.integers(-2, 3, 2), (0, 1)))
                named = category if rng.random() < 0.9 else 3 - category
                found.append(FoundMask(scope.image, named, moved, round(float(rng.random()), 1)))
    return truths, found


def _ap(scopes: list[Scope], truths: list[TrueMask], found: list[FoundMask], lvis: bool = False) -> float:
    ap = average_precision(scopes, _CATEGORIES, truths, found, lvis=lvis).ap
    return np.nan if ap is None else ap


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("agnostic", [False, True])
def test_pictures_drawn_once_give_the_ap_of_the_library(seed: int, agnostic: bool) -> None:
    scopes = _scopes(9)
    truths, found = _data(scopes, seed)
    found = [replace(entry, category=None) for entry in found] if agnostic else found
    once = np.ones((1, len(scopes)), np.int32)
    assert resampled_ap(matched(scopes, truths, found), once) == pytest.approx([_ap(scopes, truths, found)], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_picture_drawn_n_times_counts_as_n_copies_of_it(seed: int) -> None:
    scopes = _scopes(8)
    truths, found = _data(scopes, seed)
    found = [replace(entry, score=entry.score + 1e-3 * place) for place, entry in enumerate(found)]  # no equal scores
    weights = np.array(list(itertools.islice(drawings(len(scopes), seed=seed), 1, 21)), np.int32)
    assert weights.sum(axis=1).tolist() == [len(scopes)] * 20
    expected = []
    for row in weights:
        copies = [(scope, scope.image + 1000 * copy) for scope, n in zip(scopes, row, strict=True) for copy in range(n)]

        def drawn(entries: list, copies: list = copies) -> list:
            return [replace(e, image=image) for scope, image in copies for e in entries if e.image == scope.image]

        expected.append(_ap(drawn(scopes), drawn(truths), drawn(found)))
    assert resampled_ap(matched(scopes, truths, found), weights) == pytest.approx(expected, abs=1e-9)


def test_lvis_counts_only_where_a_category_is_annotated() -> None:
    scopes = _scopes(8)
    truths, found = _data(scopes, 3)
    scopes = [replace(scope, absent=(1,), incomplete=(1,) if place % 2 else ()) for place, scope in enumerate(scopes)]
    once = np.ones((1, len(scopes)), np.int32)
    by_lvis = resampled_ap(matched(scopes, truths, found, lvis=True), once)
    assert by_lvis == pytest.approx([_ap(scopes, truths, found, lvis=True)], abs=1e-9)
    assert by_lvis != pytest.approx(resampled_ap(matched(scopes, truths, found), once), abs=1e-3)


def test_without_objects_there_is_no_ap() -> None:
    scopes = _scopes(3)
    mask = encode(np.ones((_SIDE, _SIDE), bool))
    truths = [TrueMask(scopes[0].image, 1, mask, float(_SIDE**2), False)]
    found = [FoundMask(scope.image, 1, mask, 0.5) for scope in scopes]
    drawn = np.array([[1, 1, 1], [0, 2, 1], [3, 0, 0]], np.int32)
    assert resampled_ap(matched(scopes, truths, found), drawn) == pytest.approx([1, np.nan, 1], nan_ok=True)
    assert resampled_ap(matched(scopes, truths, []), drawn) == pytest.approx([0, np.nan, 0], nan_ok=True)
