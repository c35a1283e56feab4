"""Masks in annotation files: polygons, and run-length encodings (RLE), plain or compressed.

Sources: the COCO data format, and `maskApi.c` of pycocotools for compressed counts. Each character, counted from "0", holds
five bits of the value, least significant first, and one bit that says whether more follow. From the fourth count on, it is
the difference from the last but one that is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bhk.base.packages import MissingPackageError
from bhk.evaluation.annotations.document import decode
from bhk.evaluation.faults import FaultKind
from bhk.pictures import rle as runs

Report = Callable[[FaultKind], None]

_MOST_GROUPS = 12  # of five bits per count, as more would not fit into 64 bits


@dataclass(frozen=True)
class Rle:
    """A mask in compressed RLE.

    Attributes:
        height, width: size in pixels.
        counts: the compressed counts.
    """

    height: int
    width: int
    counts: str

    @property
    def area(self) -> int:
        """The number of pixels in the mask."""
        return sum(expand(self.counts)[1::2])

    def decode(self) -> NDArray[np.bool_]:
        """Return the mask, bool (height, width)."""
        return runs.decode({"size": [self.height, self.width], "counts": expand(self.counts)})

    def plain(self) -> dict[str, object]:
        """Return it in the form that JSON files and mask libraries use."""
        return {"size": [self.height, self.width], "counts": self.counts}


def mask_api() -> ModuleType:
    """Return the module of faster-coco-eval that rasterises and encodes masks.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise MissingPackageError(
            f"annotations need the package faster_coco_eval, which cannot be imported ({error}); "
            "run: pip install faster-coco-eval"
        ) from error
    return mask  # type: ignore[no-any-return]


def encode(mask: NDArray[np.bool_]) -> Rle:
    """Return a mask, bool (height, width), as RLE."""
    return _from_library(mask_api().encode(np.asfortranarray(mask.astype(np.uint8))))


def read_segmentation(text: bytes, height: int, width: int, report: Report) -> Rle | None:
    """Return the mask that a segmentation describes, or None if it has no usable pixels.

    Args:
        text: the JSON of the segmentation.
        height, width: size of the picture in pixels.
        report: called with each fault.
    """
    try:
        found = decode(text, Any)
    except msgspec.ValidationError:
        found = None
    if isinstance(found, list):
        mask = _from_polygons(found, height, width, report)
    elif isinstance(found, dict) and isinstance(found.get("counts"), (str, list)):
        mask = _from_runs(found, height, width, report)
    else:
        report(FaultKind.MALFORMED_SEGMENTATION)
        return None
    if mask is not None and not mask.area:
        report(FaultKind.EMPTY_MASK)
        return None
    return mask


def expand(counts: str) -> list[int]:
    """Return compressed counts as numbers.

    Raises:
        ValueError: the text is not compressed counts.
    """
    codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    if not codes.size:
        return []
    ends = np.flatnonzero((codes & 32) == 0)
    if codes.min() < 0 or codes.max() > 63 or not ends.size or ends[-1] != codes.size - 1:
        raise ValueError("not compressed counts")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends + 1 - starts
    if lengths.max() > _MOST_GROUPS:
        raise ValueError("a count beyond 60 bits")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)  # the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values.tolist()  # type: ignore[no-any-return]


def _from_runs(found: dict[str, Any], height: int, width: int, report: Report) -> Rle | None:
    counts = found["counts"]
    try:
        lengths = expand(counts) if isinstance(counts, str) else counts
    except ValueError:
        lengths = None
    if lengths is None or not all(type(length) is int and length >= 0 for length in lengths):
        report(FaultKind.MALFORMED_SEGMENTATION)
        return None
    if found.get("size") != [height, width] or sum(lengths) != height * width:
        report(FaultKind.RLE_LENGTH)
        return None
    if isinstance(counts, str):
        return Rle(height, width, counts)
    return _from_library(mask_api().frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _from_polygons(polygons: list[Any], height: int, width: int, report: Report) -> Rle | None:
    """Return the union of polygons, each a list x, y, x, y, … in pixels."""
    usable = [points for polygon in polygons if (points := _polygon(polygon, height, width, report)) is not None]
    if not usable:
        report(FaultKind.EMPTY_MASK)
        return None
    api = mask_api()
    return _from_library(api.merge(api.frPyObjects(usable, height, width)))


def _polygon(polygon: Any, height: int, width: int, report: Report) -> list[float] | None:
    """Return the coordinates of a polygon in a form that the rasteriser accepts, or None if it is not a polygon."""
    if not isinstance(polygon, list) or not all(type(number) in (int, float) for number in polygon):
        report(FaultKind.MALFORMED_SEGMENTATION)
        return None
    if len(polygon) < 6:
        report(FaultKind.SHORT_POLYGON)
        return None
    if len(polygon) % 2:
        report(FaultKind.ODD_POLYGON)
        return None
    size = np.array([width, height], dtype=np.float64)
    try:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    except OverflowError:  # an integer of hundreds of digits
        report(FaultKind.MALFORMED_SEGMENTATION)
        return None
    if (points < 0).any() or (points > size).any():
        report(FaultKind.POLYGON_OUT_OF_BOUNDS)
        points = np.clip(points, -size, 2 * size)  # the rasteriser clips too, but walks along every edge first
    return points.ravel().tolist()


def _from_library(found: dict[str, Any]) -> Rle:
    height, width = map(int, found["size"])
    counts = found["counts"]
    return Rle(height, width, counts.decode() if isinstance(counts, bytes) else counts)
