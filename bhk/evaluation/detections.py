"""Boxes of a detector, read from a COCO results file, to use as prompts."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bhk.evaluation.annotations.dataset import Annotations
from bhk.evaluation.annotations.document import box_of, decode, load_json
from bhk.evaluation.annotations.errors import UnknownFormatError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import Place
from bhk.pictures.prompts import Box


@dataclass(frozen=True)
class Detection:
    """A box that a detector found.

    Attributes:
        category: id of the category; None if the file names none.
        box: (x0, y0, x1, y1); it may extend beyond the picture.
        score: the detector's confidence; None if the file has none.
    """

    category: int | None
    box: Box
    score: float | None


class _Result(msgspec.Struct):
    image_id: int
    bbox: msgspec.Raw
    category_id: int | None = None
    score: msgspec.Raw = msgspec.Raw(b"null")


def read_detections(
    path: str | os.PathLike[str], annotations: Annotations, log: FaultLog
) -> Mapping[int, tuple[Detection, ...]]:
    """Return the detections of a COCO results file, by image id.

    Args:
        path: a JSON list of {image_id, bbox: [x, y, width, height], category_id, score}, the last two optional.
        annotations: the annotations whose image and category ids the results use.
        log: counts results that cannot be used.

    Raises:
        AnnotationError: the file cannot be read or is not JSON.
        UnknownFormatError: the JSON is not a list.
    """
    source = Path(path)
    try:
        raws: list[msgspec.Raw] = load_json(Place(source.name, str(source)), list[msgspec.Raw])
    except msgspec.ValidationError as error:
        raise UnknownFormatError(
            f"{source} is not a list of results ({error}); expected [{{image_id, bbox, category_id, score}}, …]"
        ) from error
    categories = {category.id for category in annotations.categories}
    found: defaultdict[int, list[Detection]] = defaultdict(list)
    for number, raw in enumerate(raws):
        where = f"detection {number}"
        try:
            result = decode(raw, _Result)
        except msgspec.ValidationError as error:
            log.add(FaultKind.MALFORMED_RECORD, f"{where}: {error}")
            continue
        if result.image_id not in annotations.ids:
            log.add(FaultKind.UNKNOWN_IMAGE, f"{where}: image {result.image_id}")
        elif result.category_id is not None and result.category_id not in categories:
            log.add(FaultKind.UNKNOWN_CATEGORY, f"{where}: category {result.category_id}")
        elif (detection := _detection(result)) is None:
            log.add(FaultKind.BOX_NOT_NUMBERS, f"{where}: box {bytes(result.bbox).decode(errors='replace')}")
        else:
            found[result.image_id].append(detection)
    return {image: tuple(detections) for image, detections in found.items()}


def _detection(result: _Result) -> Detection | None:
    """Return a result as a detection; None if its box or score is not made of finite numbers."""
    box = box_of(result.bbox)
    try:
        score = decode(result.score, float | None)
    except msgspec.ValidationError:
        return None
    if box is None or not all(map(math.isfinite, box)) or (score is not None and not math.isfinite(score)):
        return None
    return Detection(result.category_id, box, score)
