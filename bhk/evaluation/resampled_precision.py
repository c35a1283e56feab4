"""Average precision (AP) of pictures drawn anew, many times: its bootstrap interval.

Masks are matched to objects once, picture by picture, by the rules of `bhk.evaluation.average_precision`. A picture that is
drawn n times then counts n-fold, which gives the AP that n copies of it would. Source of the interval: Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhk.evaluation.annotations.segmentation import mask_api
from bhk.evaluation.average_precision import FoundMask, Scope, TrueMask, counted_by_lvis

_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the IoU
_RECALLS = np.linspace(0, 1, 101)  # at which precision is read
_MOST = 100  # COCO counts the 100 masks with the highest scores in each picture and category
_CELLS = 4_000_000  # values of an array that are computed at a time


@dataclass(frozen=True, eq=False)
class CategoryMatches:
    """The masks of one category in all pictures, from the highest score to the lowest.

    Attributes:
        pictures: index of each mask's picture, int64 (masks,).
        right, wrong: whether a mask counts as correct, or as wrong, at each IoU threshold, bool (thresholds, masks).
        objects: number of objects in each picture without crowds, int64 (pictures,).
    """

    pictures: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    objects: NDArray[np.int64]


def matched(
    scopes: Sequence[Scope], truths: Sequence[TrueMask], found: Sequence[FoundMask], *, lvis: bool = False
) -> tuple[CategoryMatches, ...]:
    """Match masks to objects in all pictures, and return the result for each category that has objects.

    Args:
        scopes: the pictures, whose order is that of the columns of weights in `resampled_ap`.
        truths: the annotated objects.
        found: the masks to evaluate.
        lvis: follow LVIS: a mask counts only in pictures that are annotated for its category.
    """
    agnostic = any(entry.category is None for entry in found)
    lvis = lvis and not agnostic
    places = {scope.image: place for place, scope in enumerate(scopes)}
    objects: dict[int, dict[int, list[TrueMask]]] = {}
    for truth in truths:
        objects.setdefault(1 if agnostic else truth.category, {}).setdefault(places[truth.image], []).append(truth)
    masks: dict[int, dict[int, list[FoundMask]]] = {}
    for entry in counted_by_lvis(scopes, truths, found) if lvis else found:
        category = 1 if agnostic or entry.category is None else entry.category
        masks.setdefault(category, {}).setdefault(places[entry.image], []).append(entry)
    order = sorted(range(len(scopes)), key=lambda place: scopes[place].image)  # decides between equal scores
    exempt = [frozenset(scope.incomplete if lvis else ()) for scope in scopes]
    return tuple(
        _category(
            objects[category],
            {place: masks[category][place] for place in order if place in masks.get(category, {})},
            [category in some for some in exempt],
        )
        for category in sorted(objects)
    )


def _category(
    objects: Mapping[int, Sequence[TrueMask]], masks: Mapping[int, Sequence[FoundMask]], exempt: Sequence[bool]
) -> CategoryMatches:
    """Match the masks of one category; where `exempt` is true, those without an object do not count as wrong."""
    pictures, scores = [np.empty(0, np.int64)], [np.empty(0)]
    rights, wrongs = [np.empty((len(_THRESHOLDS), 0), bool)], [np.empty((len(_THRESHOLDS), 0), bool)]
    for place, entries in masks.items():
        best = sorted(entries, key=lambda entry: -entry.score)[:_MOST]
        right, ignored = _matches(best, objects.get(place, ()))
        if exempt[place]:
            ignored = ignored | ~right
        pictures.append(np.full(len(best), place))
        scores.append(np.array([entry.score for entry in best]))
        rights.append(right & ~ignored)
        wrongs.append(~right & ~ignored)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    counts = np.zeros(len(exempt), np.int64)
    for place, present in objects.items():
        counts[place] = sum(not entry.crowd for entry in present)
    return CategoryMatches(
        np.concatenate(pictures)[order],
        np.concatenate(rights, axis=1)[:, order],
        np.concatenate(wrongs, axis=1)[:, order],
        counts,
    )


def _matches(masks: Sequence[FoundMask], objects: Sequence[TrueMask]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each mask matches an object, and whether that is a crowd, both bool (thresholds, masks).

    The best mask chooses first, and takes the object with the highest IoU that is left. Crowds can be taken again.
    """
    right, ignored = (np.zeros((len(_THRESHOLDS), len(masks)), bool) for _ in range(2))
    if not masks or not objects:
        return right, ignored
    objects = sorted(objects, key=lambda entry: entry.crowd)
    crowd = np.array([entry.crowd for entry in objects])
    plain = ([entry.mask.plain() for entry in entries] for entries in (masks, objects))
    ious = np.asarray(mask_api().iou(*plain, [int(flag) for flag in crowd])).reshape(len(masks), len(objects))
    taken = np.zeros((len(_THRESHOLDS), len(objects)), bool)
    rows = np.arange(len(_THRESHOLDS))
    for number, row in enumerate(ious):
        near = (row >= _THRESHOLDS[:, None]) & ~taken
        single = near & ~crowd
        choice = np.where(single.any(axis=1)[:, None], single, near & crowd)
        last = np.where(choice, row, -1.0)[:, ::-1]  # the last one wins if several are equally near
        chosen = len(objects) - 1 - last.argmax(axis=1)
        hit = choice.any(axis=1)
        right[:, number] = hit
        ignored[:, number] = hit & crowd[chosen]
        taken[rows, chosen] |= hit & ~crowd[chosen]
    return right, ignored


def resampled_ap(categories: Sequence[CategoryMatches], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the AP of each drawing of pictures, (drawings,); NaN where none of them shows an object.

    Args:
        categories: the matches.
        weights: how often each picture was drawn, (drawings, pictures).
    """
    total, present = np.zeros(len(weights)), np.zeros(len(weights))
    for category in categories:
        size = max(1, _CELLS // max(1, category.right.size))
        showing = np.flatnonzero(category.objects)
        for start in range(0, len(weights), size):
            drawn = slice(start, start + size)
            objects = weights[drawn][:, showing] @ category.objects[showing]
            shown = objects > 0
            total[drawn][shown] += _precision(category, weights[drawn][:, category.pictures][shown], objects[shown])
            present[drawn] += shown
    found: NDArray[np.float64] = np.divide(total, present, out=np.full(len(weights), np.nan), where=present > 0)
    return found


def _precision(
    category: CategoryMatches, weights: NDArray[np.int32], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the AP of one category for each drawing, (drawings,).

    Args:
        category: the matches.
        weights: how often each mask was drawn, (drawings, masks).
        objects: number of objects, (drawings,), at least 1.
    """
    if not len(category.pictures):
        return np.zeros(len(weights))
    right = np.cumsum(weights[:, None] * category.right, axis=2, dtype=np.int32)  # (drawings, thresholds, masks)
    wrong = np.cumsum(weights[:, None] * category.wrong, axis=2, dtype=np.int32)
    precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[:, :, ::-1], axis=2)[:, :, ::-1]
    # How many of the recalls are reached with 0, 1, 2, … objects found; then up to each mask.
    table = np.searchsorted(_RECALLS, np.arange(objects.max() + 1) / objects[:, None], side="right").astype(np.int8)
    reached = np.take_along_axis(table[:, None], right, axis=2)
    steps = np.diff(reached, axis=2, prepend=np.int8(0))
    found: NDArray[np.float64] = (steps * precision).sum(axis=2).mean(axis=1) / len(_RECALLS)
    return found
