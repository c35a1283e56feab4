"""Average precision (AP) of masks as COCO and LVIS define it, computed by faster-coco-eval.

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

LVIS_MOST = 300  # LVIS counts the 300 detections with the highest scores in each picture


@dataclass(frozen=True)
class Precision:
    """Average precision of masks, 0 … 1. A value is None if there is no object it could be computed from.

    Attributes:
        ap: mean over the IoU thresholds 0.50, 0.55, … 0.95 and over categories.
        ap50, ap75: AP at the threshold 0.50 and at 0.75.
        small, medium, large: AP of objects below 32² pixels, below 96², and larger.
        rare, common, frequent: AP of categories that few, some or many training pictures show (LVIS only).
        class_agnostic: whether all objects counted as one category because the detections name none.
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
    """A picture to evaluate; `absent` and `incomplete` are explained in `AnnotatedImage`."""

    image: int
    height: int
    width: int
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrueMask:
    """An annotated object. A mask that matches a crowd counts neither as correct nor as wrong."""

    image: int
    category: int
    mask: Rle
    area: float
    crowd: bool


@dataclass(frozen=True)
class FoundMask:
    """A mask to evaluate. If one mask has no category, all are evaluated without categories."""

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
    """Return the average precision of masks.

    Args:
        scopes: the pictures.
        categories: the categories of the annotations.
        truths: the annotated objects.
        found: the masks to evaluate.
        lvis: follow LVIS: a mask counts only in pictures that are annotated for its category.

    Raises:
        MissingPackageError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingPackageError(
            f"AP needs the package faster_coco_eval, which cannot be imported ({error}); run: pip install faster-coco-eval"
        ) from error
    agnostic = any(entry.category is None for entry in found)
    lvis = lvis and not agnostic
    places = {image: place for place, image in enumerate(sorted(scope.image for scope in scopes))}
    truth = COCO(_ground_truth(scopes, categories, truths, agnostic, places))
    results = truth.loadRes(_results(counted_by_lvis(scopes, truths, found) if lvis else found, agnostic, places))
    evaluation = COCOeval_faster(truth, results, "segm", lvis_style=lvis)
    if lvis:
        evaluation.params.maxDets = [LVIS_MOST]
    evaluation.run()
    values: list[float | None] = [None if value < 0 else float(value) for value in evaluation.all_stats]
    ap, ap50, ap75, small, medium, large = values[:6]
    rare, common, frequent = values[-3:] if lvis else (None, None, None)
    return Precision(ap, ap50, ap75, small, medium, large, rare, common, frequent, agnostic)


def _ground_truth(
    scopes: Sequence[Scope],
    categories: Sequence[Category],
    truths: Sequence[TrueMask],
    agnostic: bool,
    places: Mapping[int, int],
) -> dict[str, Any]:
    """Return the annotations as a COCO document. `places` renumbers images: the library refuses negative ids."""
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
                "id": number,  # from 1, because the library takes 0 for "no match"
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


def counted_by_lvis(scopes: Sequence[Scope], truths: Sequence[TrueMask], found: Sequence[FoundMask]) -> list[FoundMask]:
    """Return the best-scored masks of each picture, without those whose category is not annotated there.

    faster-coco-eval leaves them out too, but fails if the picture has no objects at all.
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
