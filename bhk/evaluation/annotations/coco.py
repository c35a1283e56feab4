"""COCO instances and LVIS v1, which differs in how it names pictures and in what it says about absent categories.

Sources: cocodataset.org, "Data format"; lvisdataset.org, "Data format".
"""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from bhk.evaluation.annotations.dataset import AnnotatedImage, Annotations, Category, Format, GroundTruth
from bhk.evaluation.annotations.document import Document, box_of, members, records
from bhk.evaluation.annotations.pictures import PictureFolder
from bhk.evaluation.faults import FaultKind, FaultLog

Pixels = Annotated[int, msgspec.Meta(gt=0)]
_NULL = msgspec.Raw(b"null")


class _Image(msgspec.Struct):
    id: int
    width: Pixels
    height: Pixels
    file_name: str | None = None
    coco_url: str | None = None
    neg_category_ids: tuple[int, ...] = ()
    not_exhaustive_category_ids: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The file name. LVIS has a URL instead, which ends with the folder and the name."""
        if self.file_name is not None:
            return self.file_name
        return "/".join(urlsplit(self.coco_url or "").path.split("/")[-2:])


class _Annotation(msgspec.Struct):
    id: int
    image_id: int
    category_id: int
    segmentation: msgspec.Raw
    bbox: msgspec.Raw = _NULL
    area: float | None = None
    iscrowd: int | bool = 0


class _Category(msgspec.Struct):
    id: int
    name: str = ""
    frequency: Literal["r", "c", "f"] | None = None


_Record = TypeVar("_Record", _Image, _Annotation, _Category)


def read_coco(document: Document, pictures: PictureFolder, kind: Format) -> Annotations:
    """Return the annotations of a COCO or LVIS document.

    Raises:
        WrongSplitError: the folder holds other pictures.
        UnknownFormatError: what should be lists is something else.
    """
    log = FaultLog()
    categories = _unique(records(members(document, "categories"), _Category, log), log)
    images = _unique(records(members(document, "images"), _Image, log), log)
    places = pictures.match([image.name for image in images.values()], log)
    objects: defaultdict[int, list[GroundTruth]] = defaultdict(list)
    for found in _unique(records(members(document, "annotations"), _Annotation, log), log).values():
        if found.image_id not in images:
            log.add(FaultKind.UNKNOWN_IMAGE, f"annotation {found.id}: image {found.image_id}")
        elif found.category_id not in categories:
            log.add(FaultKind.UNKNOWN_CATEGORY, f"annotation {found.id}: category {found.category_id}")
        else:
            objects[found.image_id].append(_ground_truth(found))
    return Annotations(
        format=kind,
        images=tuple(
            AnnotatedImage(
                id=image.id,
                picture=picture,
                width=image.width,
                height=image.height,
                objects=tuple(objects[image.id]),
                absent=image.neg_category_ids,
                incomplete=image.not_exhaustive_category_ids,
            )
            for image in images.values()
            if (picture := places.get(image.name)) is not None
        ),
        ids=frozenset(images),
        categories=tuple(Category(entry.id, entry.name, entry.frequency) for _, entry in sorted(categories.items())),
        faults=log.counts(),
    )


def _unique(found: list[_Record], log: FaultLog) -> dict[int, _Record]:
    """Return the first record of each id, and count the others in `log`."""
    unique: dict[int, _Record] = {}
    for record in found:
        if unique.setdefault(record.id, record) is not record:
            log.add(FaultKind.DUPLICATE_ID, f"{type(record).__name__.strip('_').lower()} {record.id}")
    return unique


def _ground_truth(found: _Annotation) -> GroundTruth:
    return GroundTruth(
        id=found.id,
        category=found.category_id,
        segmentation=bytes(found.segmentation),
        box=box_of(found.bbox),
        crowd=bool(found.iscrowd),
        area=found.area,
    )
