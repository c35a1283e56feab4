"""Fidelity over all pictures. Of each picture, a few sums and the IoU of each pair of masks are held, as arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bhk.evaluation.fidelity import KINDS, ImageFidelity, Kind
from bhk.evaluation.intervals import Estimate, estimate, ratio, resampled_medians, resampled_sums

FAITHFUL = 0.95  # IoU from which two masks count as the same

_ONE_MASK = ("single", "followed", "text")  # kinds for which there is no other mask of the object to score best
_MASKS, _IOU, _BOUNDARY, _CHANGE, _CHANGE_ABS, _FAITHFUL, _FLIPS, _EMPTY = range(8)  # columns of the sums


@dataclass(frozen=True)
class Agreement:
    """How closely the masks of a group of prompts agree. Intervals are 95 % bootstrap intervals over pictures.

    Attributes:
        masks: number of pairs of masks.
        iou_mean, iou_median, iou_percentile, iou_min: mean, median, first percentile and minimum of the IoU, 0 … 1.
        faithful: share of the masks with an IoU of at least `FAITHFUL`.
        boundary_iou: mean boundary IoU.
        score_change, score_change_abs: mean change of the predicted IoU, and mean absolute change.
        flips: share of the prompts for which the two models score different masks best; None for single masks.
        empty: share of the masks that are empty in both models, which count as IoU 1.
    """

    masks: int
    iou_mean: Estimate
    iou_median: Estimate
    iou_percentile: float
    iou_min: float
    faithful: Estimate
    boundary_iou: Estimate
    score_change: Estimate
    score_change_abs: Estimate
    flips: Estimate | None
    empty: float


@dataclass(frozen=True)
class Fidelity:
    """How closely two models agree over all pictures.

    Attributes:
        points, boxes: agreement on the multimask output; None without prompts of that kind.
        single: agreement on the single masks of boxes; None if the models have none, and for a clip.
        texts: agreement on the objects that texts name; None without texts.
        all: agreement on all of these masks together.
        embedding_cosine, embedding_cosine_min: mean and minimum cosine similarity of the image embeddings.
    """

    points: Agreement | None
    boxes: Agreement | None
    single: Agreement | None
    all: Agreement
    embedding_cosine: Estimate
    embedding_cosine_min: float
    texts: Agreement | None = None

    @property
    def groups(self) -> dict[str, Agreement]:
        """The groups of masks that were compared, by the names that tables give them."""
        groups = {"points": self.points, "boxes": self.boxes, "boxes, single mask": self.single}
        groups |= {"texts": self.texts, "all": self.all}
        return {name: agreement for name, agreement in groups.items() if agreement is not None}


class FidelitySums:
    """What a summary needs of the pictures of an evaluation: 64 bytes for each kind of mask, and 8 for each pair of masks."""

    def __init__(self) -> None:
        self._sums: dict[Kind, array[float]] = {}  # (pictures, columns)
        self._ious: dict[Kind, array[float]] = {}
        self._cosines = array("d")

    def add(self, image: ImageFidelity) -> None:
        """Add the result for a picture."""
        iou, change = np.array(image.iou, float), np.array(image.score_change, float)
        flips, empty = np.array(image.flips, float), np.array(image.empty, float)
        columns = np.stack(
            [np.ones_like(iou), iou, image.boundary_iou, change, np.abs(change), iou >= FAITHFUL, flips, empty]
        )
        kinds = np.array(image.kinds, object)
        for kind in KINDS:
            of_kind = kinds == kind
            if kind not in self._sums and not of_kind.any():
                continue
            earlier = array("d", bytes(8 * len(columns) * len(self._cosines)))
            self._sums.setdefault(kind, earlier).extend(columns[:, of_kind].sum(axis=1))
            self._ious.setdefault(kind, array("d")).extend(iou[of_kind])
        self._cosines.append(image.embedding_cosine)

    def summary(self, *, seed: int = 0) -> Fidelity:
        """Return the agreement over all pictures, of which there must be one with at least one mask.

        Args:
            seed: seed of the bootstrap.
        """
        pictures = len(self._cosines)
        columns = {kind: np.frombuffer(sums).reshape(pictures, -1).T for kind, sums in self._sums.items()}
        sums = {kind: resampled_sums(of_kind, seed=seed) for kind, of_kind in columns.items()}
        cosines = np.frombuffer(self._cosines)
        (cosine,) = resampled_sums(cosines[None], seed=seed) / pictures

        def agreement(kinds: Sequence[Kind]) -> Agreement:
            ious = np.concatenate([np.frombuffer(self._ious[kind]) for kind in kinds])
            places = [
                np.repeat(np.arange(pictures, dtype=np.int32), columns[kind][_MASKS].astype(int)) for kind in kinds
            ]
            medians = resampled_medians(ious, np.concatenate(places), pictures, seed=seed)
            return _agreement({kind: sums[kind] for kind in kinds}, ious, estimate(medians))

        groups = {kind: agreement([kind]) for kind in KINDS if kind in sums}
        return Fidelity(
            points=groups.get("point"),
            boxes=groups.get("box"),
            single=groups.get("single"),
            texts=groups.get("text"),
            all=agreement(list(groups)),
            embedding_cosine=estimate(cosine),
            embedding_cosine_min=float(cosines.min()),
        )


def summarise(images: Iterable[ImageFidelity], *, seed: int = 0) -> Fidelity:
    """Return the agreement over all pictures; see `FidelitySums.summary`."""
    sums = FidelitySums()
    for image in images:
        sums.add(image)
    return sums.summary(seed=seed)


def _agreement(sums: Mapping[Kind, NDArray[np.float64]], ious: NDArray[np.float64], median: Estimate) -> Agreement:
    """Return the agreement of masks.

    Args:
        sums: for each kind of mask, (columns, 1 + drawings).
        ious: the IoU of each pair.
        median: of the IoU.
    """
    total = sum(sums.values(), np.zeros(()))
    multimask = sum((some for kind, some in sums.items() if kind not in _ONE_MASK), np.zeros_like(total))

    def mean(column: int, of: NDArray[np.float64] = total) -> Estimate:
        return estimate(ratio(of[column], of[_MASKS]))

    return Agreement(
        masks=len(ious),
        iou_mean=mean(_IOU),
        iou_median=median,
        iou_percentile=float(np.percentile(ious, 1)),
        iou_min=float(ious.min()),
        faithful=mean(_FAITHFUL),
        boundary_iou=mean(_BOUNDARY),
        score_change=mean(_CHANGE),
        score_change_abs=mean(_CHANGE_ABS),
        flips=mean(_FLIPS, multimask) if multimask[_MASKS, 0] else None,
        empty=float(total[_EMPTY, 0] / total[_MASKS, 0]),
    )
