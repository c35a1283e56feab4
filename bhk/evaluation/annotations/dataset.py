"""Annotations in memory: what all formats have in common. Masks stay as the file has them until one is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from bhk.evaluation.faults import FaultCount
from bhk.pictures.prompts import Box

Format = Literal["coco", "lvis", "sa1b"]
FORMATS: tuple[Format, ...] = ("coco", "lvis", "sa1b")


@dataclass(frozen=True)
class Category:
    """A class of objects.

    Attributes:
        id: its number in the file.
        name: what people call it.
        frequency: "r", "c" or "f" for rare, common and frequent (LVIS only).
    """

    id: int
    name: str
    frequency: str | None = None


@dataclass(frozen=True)
class GroundTruth:
    """An annotated object.

    Attributes:
        id: of the annotation.
        category: id of its category; None where the format has none.
        segmentation: its mask as the JSON text of the file; `bhk.evaluation.annotations.segmentation` decodes it.
        box: (x0, y0, x1, y1) as annotated; None where there is none.
        crowd: whether it is a region of many objects.
        area: in pixels, as annotated; None where it is not.
    """

    id: int
    category: int | None
    segmentation: bytes = field(repr=False)
    box: Box | None
    crowd: bool
    area: float | None


@dataclass(frozen=True)
class AnnotatedImage:
    """A picture and the objects in it.

    Attributes:
        id: of the image in the file.
        path: of the picture.
        width, height: in pixels, as annotated.
        objects: in the order of the file.
        absent: categories known not to be in the picture (LVIS only).
        incomplete: categories of which not every object is annotated (LVIS only).
    """

    id: int
    path: str
    width: int
    height: int
    objects: tuple[GroundTruth, ...] = ()
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The image as messages call it."""
        return f"image {self.id} ({os.path.basename(self.path)})"


@dataclass(frozen=True)
class ImageFile:
    """A picture whose annotations are in a JSON file of their own, not yet read (SA-1B).

    Attributes:
        json: path of the file.
        path: of the picture.
    """

    json: str
    path: str


@dataclass(frozen=True)
class Annotations:
    """Ground truth of a set of pictures.

    Attributes:
        format: of the file.
        images: those whose pictures are there; `bhk.evaluation.annotations.reading.resolve` makes an `AnnotatedImage` of
            each.
        ids: of all images in the file, also of those whose pictures are missing; none for SA-1B.
        categories: in the order of their ids; none where the format has none.
        faults: what was wrong with the file.
    """

    format: Format
    images: tuple[AnnotatedImage | ImageFile, ...]
    ids: frozenset[int]
    categories: tuple[Category, ...]
    faults: tuple[FaultCount, ...]
