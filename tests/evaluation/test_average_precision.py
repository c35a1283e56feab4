from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bhk.evaluation.annotations import Category
from bhk.evaluation.annotations.segmentation import encode
from bhk.evaluation.average_precision import FoundMask, Precision, Scope, TrueMask, average_precision

_CATEGORIES = (Category(1, "a", "r"), Category(2, "b", "c"), Category(5, "c", "f"))
_HEIGHT, _WIDTH = 150, 200
_SCOPES = [Scope(image, _HEIGHT, _WIDTH) for image in (0, 5, 9)]


def _blob(rng: np.random.Generator, radius: float) -> np.ndarray:
    y, x = np.mgrid[:_HEIGHT, :_WIDTH]
    centre = rng.uniform(20, 130, 2)
    return ((y - centre[0]) / radius) ** 2 + ((x - centre[1]) / (radius * rng.uniform(0.5, 1.5))) ** 2 < 1


def _data(seed: int) -> tuple[list[TrueMask], list[FoundMask]]:
    """Return objects of all sizes and some crowds, and masks that are shifted, missing, mislabelled or of no object."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for scope in _SCOPES:
        for _ in range(12):
            mask = _blob(rng, rng.choice([8, 25, 60]))
            category = int(rng.choice([1, 2, 5]))
            truths.append(TrueMask(scope.image, category, encode(mask), float(mask.sum()), bool(rng.random() < 0.15)))
            if rng.random() < 0.8:
                named = category if rng.random() < 0.9 else 1
                moved = np.roll(mask, rng.integers(-3, 4, 2), (0, 1))
                found.append(FoundMask(scope.image, named, encode(moved), float(rng.random())))
        found += [FoundMask(scope.image, 2, encode(_blob(rng, 20)), float(rng.random())) for _ in range(3)]
    return truths, found


def _by_pycocotools(truths: list[TrueMask], found: list[FoundMask]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": scope.image, "height": _HEIGHT, "width": _WIDTH} for scope in _SCOPES],
            "categories": [{"id": category.id} for category in _CATEGORIES],
            "annotations": [
                {
                    "id": number,
                    "image_id": entry.image,
                    "category_id": entry.category,
                    "segmentation": entry.mask.plain(),
                    "area": entry.area,
                    "iscrowd": int(entry.crowd),
                }
                for number, entry in enumerate(truths, start=1)
            ],
        }
        truth.createIndex()
        results = [
            {
                "image_id": entry.image,
                "category_id": entry.category,
                "segmentation": entry.mask.plain(),
                "score": entry.score,
            }
            for entry in found
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats[:6])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ap_equals_that_of_pycocotools(seed: int) -> None:
    truths, found = _data(seed)
    assert any(entry.crowd for entry in truths)
    ours = average_precision(_SCOPES, _CATEGORIES, truths, found)
    figures = [ours.ap, ours.ap50, ours.ap75, ours.small, ours.medium, ours.large]
    assert figures == pytest.approx(_by_pycocotools(truths, found), abs=1e-6)
    assert 0.1 < figures[0] < 0.9
    assert (ours.rare, ours.class_agnostic) == (None, False)


def test_perfect_masks_and_missing_objects() -> None:
    truths = [replace(entry, crowd=False) for entry in _data(0)[0]]
    found = [FoundMask(entry.image, entry.category, entry.mask, 1.0) for entry in truths]
    perfect = average_precision(_SCOPES, _CATEGORIES, truths, found)
    assert perfect == Precision(*[pytest.approx(1.0)] * 6)
    nothing = average_precision(_SCOPES, _CATEGORIES, truths, [])
    assert (nothing.ap, nothing.small) == (0, 0)
    assert average_precision(_SCOPES, _CATEGORIES, [], found).ap is None


def test_image_ids_may_be_any_numbers() -> None:
    truths, found = _data(0)
    ids = {scope.image: place for scope, place in zip(_SCOPES, (-(10**30), -1, 10**30), strict=True)}
    scopes, renumbered, answers = (
        [replace(entry, image=ids[entry.image]) for entry in entries] for entries in (_SCOPES, truths, found)
    )
    ours = average_precision(scopes, _CATEGORIES, renumbered, answers)
    assert ours == average_precision(_SCOPES, _CATEGORIES, truths, found)


def test_masks_without_categories_are_class_agnostic() -> None:
    truths, found = _data(0)
    one = (Category(1, "object"),)
    expected = average_precision(
        _SCOPES, one, [replace(entry, category=1) for entry in truths], [replace(entry, category=1) for entry in found]
    )
    ours = average_precision(_SCOPES, _CATEGORIES, truths, [replace(entry, category=None) for entry in found])
    assert ours == replace(expected, class_agnostic=True)


def test_lvis_counts_only_where_a_category_is_annotated() -> None:
    rng = np.random.default_rng(0)
    masks = [encode(_blob(rng, 30)) for _ in range(3)]
    truths = [TrueMask(0, category, mask, 2000.0, False) for category, mask in zip((1, 2, 5), masks, strict=True)]
    true = [FoundMask(0, entry.category, entry.mask, 0.5) for entry in truths]
    false = [FoundMask(5, 1, masks[0], 0.9), FoundMask(9, 2, masks[1], 0.9)]

    def judged(absent: tuple[int, ...], incomplete: tuple[int, ...] = ()) -> Precision:
        scopes = [_SCOPES[0], Scope(5, _HEIGHT, _WIDTH, absent, incomplete), _SCOPES[2]]
        return average_precision(scopes, _CATEGORIES, truths, [*true, *false], lvis=True)

    unknown = judged(absent=())
    assert (unknown.ap, unknown.rare, unknown.common, unknown.frequent) == pytest.approx((1, 1, 1, 1))
    known = judged(absent=(1,))
    assert (known.rare, known.common, known.frequent) == pytest.approx((0.5, 1, 1))
    assert judged(absent=(1,), incomplete=(1,)).rare == pytest.approx(1)
