"""Faults in the data of an evaluation: every one is counted and reported by kind."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES = 3  # kept per kind


class FaultKind(str, enum.Enum):
    """What can be wrong, and what the evaluation does about it."""

    MISSING_PICTURE = "missing picture: left out"
    DAMAGED_ARCHIVE = "damaged part of an archive: left out"
    UNREADABLE_PICTURE = "picture that cannot be read: left out"
    AMBIGUOUS_PICTURE = "file name that matches several pictures, or shares its picture with another name: left out"
    UNUSABLE_PICTURE = "picture whose shape the model cannot process: left out"
    OTHER_SIZE = "picture whose size differs from the annotated one: left out"
    MALFORMED_RECORD = "record without what the format requires: left out"
    DUPLICATE_ID = "duplicate id: all but the first left out"
    UNKNOWN_IMAGE = "record of an unknown image: left out"
    UNKNOWN_CATEGORY = "record of an unknown category: left out"
    MALFORMED_SEGMENTATION = "segmentation that is neither polygons nor RLE: left out"
    SHORT_POLYGON = "polygon with fewer than three points: left out"
    ODD_POLYGON = "polygon with an odd number of coordinates: left out"
    POLYGON_OUT_OF_BOUNDS = "polygon beyond the picture: clipped"
    RLE_LENGTH = "RLE of another size than the picture: object left out"
    EMPTY_MASK = "empty mask: object left out"
    CROWD = "crowd: not prompted, ignored in AP"
    UNUSABLE_BOX = "object without a usable box: box of its mask used"
    BOX_NOT_NUMBERS = "detection whose box or score is not a number: left out"
    BOX_WITHOUT_INSIDE = "detection outside the picture: left out"


@dataclass(frozen=True)
class FaultCount:
    """How often a fault occurred.

    Attributes:
        kind: the fault.
        count: how often it occurred.
        examples: the first few, each with the ids concerned.
    """

    kind: FaultKind
    count: int
    examples: tuple[str, ...]


class FaultLog:
    """Counts faults."""

    def __init__(self) -> None:
        self._counts: dict[FaultKind, FaultCount] = {}

    def add(self, kind: FaultKind, example: str) -> None:
        """Count one fault."""
        self.add_counts([FaultCount(kind, 1, (example,))])

    def add_counts(self, counts: Iterable[FaultCount]) -> None:
        """Add the counts of another log."""
        for new in counts:
            old = self._counts.get(new.kind, FaultCount(new.kind, 0, ()))
            examples = (old.examples + new.examples)[:EXAMPLES]
            self._counts[new.kind] = FaultCount(new.kind, old.count + new.count, examples)

    def counts(self) -> tuple[FaultCount, ...]:
        """Return the counts in the order of `FaultKind`."""
        return tuple(self._counts[kind] for kind in FaultKind if kind in self._counts)
