"""What is wrong with the data of an evaluation, counted by kind and never passed over in silence."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES = 3  # of a kind that are kept


class FaultKind(str, enum.Enum):
    """What can be wrong, and what becomes of it."""

    MISSING_PICTURE = "picture missing: left out"
    UNREADABLE_PICTURE = "picture cannot be read: left out"
    AMBIGUOUS_PICTURE = "name that fits several pictures, or a picture that several names fit: left out"
    UNUSABLE_PICTURE = "picture of a shape that the model cannot take: left out"
    OTHER_SIZE = "picture of another size than annotated: left out"
    MALFORMED_RECORD = "record lacks what the format demands: left out"
    DUPLICATE_ID = "id used twice: the later one left out"
    UNKNOWN_IMAGE = "of an unknown image: left out"
    UNKNOWN_CATEGORY = "of an unknown category: left out"
    MALFORMED_SEGMENTATION = "segmentation is neither polygons nor RLE: left out"
    SHORT_POLYGON = "polygon of fewer than three points: left out"
    ODD_POLYGON = "polygon with an odd count of numbers: left out"
    POLYGON_OUT_OF_BOUNDS = "polygon leaves the picture: clipped"
    RLE_LENGTH = "RLE does not fill the picture: object left out"
    EMPTY_MASK = "mask without pixels: object left out"
    CROWD = "crowd: no prompt, ignored in AP"
    UNUSABLE_BOX = "object without a usable box: that of its mask taken"
    BOX_NOT_NUMBERS = "detection whose box or score is not numbers: left out"
    BOX_WITHOUT_INSIDE = "detection whose box has no inside in the picture: left out"


@dataclass(frozen=True)
class FaultCount:
    """How often something was wrong.

    Attributes:
        kind: what.
        count: how often.
        examples: the first few, each told with the ids it concerns.
    """

    kind: FaultKind
    count: int
    examples: tuple[str, ...]


class FaultLog:
    """Counts faults as they are met."""

    def __init__(self) -> None:
        self._counts: dict[FaultKind, FaultCount] = {}

    def add(self, kind: FaultKind, example: str) -> None:
        """Count one fault."""
        self.add_counts([FaultCount(kind, 1, (example,))])

    def add_counts(self, counts: Iterable[FaultCount]) -> None:
        """Count what another log has counted."""
        for new in counts:
            old = self._counts.get(new.kind, FaultCount(new.kind, 0, ()))
            examples = (old.examples + new.examples)[:EXAMPLES]
            self._counts[new.kind] = FaultCount(new.kind, old.count + new.count, examples)

    def counts(self) -> tuple[FaultCount, ...]:
        """Return what was counted, in the order of `FaultKind`."""
        return tuple(self._counts[kind] for kind in FaultKind if kind in self._counts)
