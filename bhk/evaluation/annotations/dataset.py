"""Annotations in memory, in one form for all formats. Masks stay encoded until they are needed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from bhk.evaluation.faults import FaultCount
from bhk.evaluation.places import Place
from bhk.pictures.prompts import Box

Format = Literal["coco", "lvis", "sa1b"]
FORMATS: tuple[Format, ...] = ("coco", "lvis", "sa1b")


@dataclass(frozen=True)
class Category:
    """A class of objects.

    Attributes:
        id: its number in the file.
        name: its name.
        frequency: "r", "c" or "f" for rare, common or frequent (LVIS only).
    """

    id: int
    name: str
    frequency: str | None = None

    @property
    def text(self) -> str:
        """Its name as a text to find its objects by: LVIS has "_" for a space. Empty if it has no name."""
        return " ".join(self.name.replace("_", " ").split())


@dataclass(frozen=True)
class GroundTruth:
    """An annotated object.

    Attributes:
        id: id of the annotation.
        category: id of its category; None if the format has none.
        segmentation: its mask as JSON text; `bhk.evaluation.annotations.segmentation` decodes it.
        box: the annotated box (x0, y0, x1, y1); None if there is none.
        crowd: whether the region holds many objects.
        area: the annotated area in pixels; None if there is none.
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
        id: id of the image in the file.
        picture: where the picture is.
        width, height: the annotated size in pixels.
        objects: its objects, in the order of the file.
        absent: categories that are known not to be in the picture (LVIS only).
        incomplete: categories of which not every object is annotated (LVIS only).
    """

    id: int
    picture: Place
    width: int
    height: int
    objects: tuple[GroundTruth, ...] = ()
    absent: tuple[int, ...] = ()
    incomplete: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name of the image in messages."""
        return f"image {self.id} ({os.path.basename(self.picture.name)})"


@dataclass(frozen=True)
class ImageFile:
    """A picture with its own annotation file, which has not been read yet (SA-1B).

    Attributes:
        json: where the annotation file is.
        picture: where the picture is.
    """

    json: Place
    picture: Place


@dataclass(frozen=True)
class Annotations:
    """The annotations of a set of pictures.

    Attributes:
        format: the format of the file.
        images: the images whose pictures exist; `bhk.evaluation.annotations.reading.resolve` turns each into an
            `AnnotatedImage`.
        ids: the ids of all images in the file, including those without a picture; empty for SA-1B.
        categories: the categories in the order of their ids; empty if the format has none.
        faults: faults found in the file.
    """

    format: Format
    images: tuple[AnnotatedImage | ImageFile, ...]
    ids: frozenset[int]
    categories: tuple[Category, ...]
    faults: tuple[FaultCount, ...]
