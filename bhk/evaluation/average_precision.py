"""Average precision of masks, as COCO and LVIS define it, computed by faster-coco-eval.

Sources: cocodataset.org, "Detection evaluation"; Gupta, Dollár and Girshick, "LVIS", CVPR 2019, section 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bhk.base.packages import MissingPackageError
from bhk.evaluation.annotations.dataset import Category
from bhk.evaluation.annotations.segmentation import Rle

LVIS_MOST = 300  # detections a picture that LVIS counts, those of the highest scores


@dataclass(frozen=True)
class Precision:
    """Average precision of masks, 0 … 1; None where there is no object to find.

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55, … 0.95 and categories.
        ap50, ap75: at one threshold.
        small, medium, large: of objects of less than 32², 96² and more pixels.
        rare, common, frequent: of categories by how many training pictures show them (LVIS only).
        class_agnostic: whether all objects counted as of one category, because detections named none.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    rare: float | None = None
    common: float | None = None
    frequent: float | None = None
    class_agnostic: bool = False


@dataclass(frozen=True)
class Scope:
    """A picture that counts; see `AnnotatedImage` for what LVIS says of categories."""

    image: int
    height: int
    width: int
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrueMask:
    """An object of the ground truth; crowds are neither to be found nor false."""

    image: int
    category: int
    mask: Rle
    area: float
    crowd: bool


@dataclass(frozen=True)
class FoundMask:
    """A mask to judge; a category of None makes all of them class-agnostic."""

    image: int
    category: int | None
    mask: Rle
    score: float


def average_precision(
    scopes: Sequence[Scope],
    categories: Sequence[Category],
    truths: Sequence[TrueMask],
    found: Sequence[FoundMask],
    *,
    lvis: bool = False,
) -> Precision:
    """Return how well masks find objects.

    Args:
        lvis: by the rules of LVIS: what is found counts only in pictures that are annotated for its category.

    Raises:
        MissingPackageError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingPackageError(
            f"AP needs the package faster_coco_eval, which cannot be imported ({error}); run: pip install 'bhk[eval]'"
        ) from error
    agnostic = any(entry.category is None for entry in found)
    lvis = lvis and not agnostic
    places = {image: place for place, image in enumerate(sorted(scope.image for scope in scopes))}
    truth = COCO(_ground_truth(scopes, categories, truths, agnostic, places))
    results = truth.loadRes(_results(_counted_by_lvis(scopes, truths, found) if lvis else found, agnostic, places))
    evaluation = COCOeval_faster(truth, results, "segm", lvis_style=lvis)
    if lvis:
        evaluation.params.maxDets = [LVIS_MOST]
    evaluation.run()
    figures: list[float | None] = [None if value < 0 else float(value) for value in evaluation.all_stats]
    ap, ap50, ap75, small, medium, large = figures[:6]
    rare, common, frequent = figures[-3:] if lvis else (None, None, None)
    return Precision(ap, ap50, ap75, small, medium, large, rare, common, frequent, agnostic)


def _ground_truth(
    scopes: Sequence[Scope],
    categories: Sequence[Category],
    truths: Sequence[TrueMask],
    agnostic: bool,
    places: Mapping[int, int],
) -> dict[str, Any]:
    """Return a COCO document; images are numbered by `places`, for ids may be negative, which the library refuses."""
    return {
        "images": [
            {
                "id": places[scope.image],
                "height": scope.height,
                "width": scope.width,
                "neg_category_ids": list(scope.absent),
                "not_exhaustive_category_ids": list(scope.incomplete),
            }
            for scope in scopes
        ],
        "categories": [{"id": 1, "name": "object"}]
        if agnostic
        else [{"id": entry.id, "name": entry.name, "frequency": entry.frequency or "f"} for entry in categories],
        "annotations": [
            {
                "id": number,  # from 1: 0 would mean that nothing was matched
                "image_id": places[truth.image],
                "category_id": 1 if agnostic else truth.category,
                "segmentation": truth.mask.plain(),
                "area": truth.area,
                "iscrowd": int(truth.crowd),
            }
            for number, truth in enumerate(truths, start=1)
        ],
    }


def _results(found: Sequence[FoundMask], agnostic: bool, places: Mapping[int, int]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": places[entry.image],
            "category_id": 1 if agnostic else entry.category,
            "segmentation": entry.mask.plain(),
            "score": entry.score,
        }
        for entry in found
    ]


def _counted_by_lvis(
    scopes: Sequence[Scope], truths: Sequence[TrueMask], found: Sequence[FoundMask]
) -> list[FoundMask]:
    """Return the masks of the highest scores in each picture, and of them those whose category is annotated there.

    faster-coco-eval leaves out the others too, but fails on one in a picture without objects.
    """
    annotated = {(scope.image, category) for scope in scopes for category in scope.absent}
    annotated |= {(truth.image, truth.category) for truth in truths}
    seen: Counter[int] = Counter()
    kept = []
    for entry in sorted(found, key=lambda entry: -entry.score):
        seen[entry.image] += 1
        if seen[entry.image] <= LVIS_MOST and (entry.image, entry.category) in annotated:
            kept.append(entry)
    return kept
