"""SA-1B: one JSON file per picture, without categories.

Sources: the data card of the dataset, and the README of `segment-anything`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import msgspec

from bhk.evaluation.annotations.coco import Pixels
from bhk.evaluation.annotations.dataset import AnnotatedImage, Annotations, GroundTruth, ImageFile
from bhk.evaluation.annotations.document import box_of, decode, load_document, members, records
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.annotations.pictures import PictureFolder
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import Place


class _Image(msgspec.Struct):
    image_id: int
    width: Pixels
    height: Pixels


class _Annotation(msgspec.Struct):
    id: int
    segmentation: msgspec.Raw
    bbox: msgspec.Raw = msgspec.Raw(b"null")
    area: float | None = None


def list_sa1b(files: Sequence[Place], pictures: PictureFolder) -> Annotations:
    """Return the annotations of SA-1B files, which are read one by one later, because there are 11 million.

    A file has the name of its picture, except for the suffix.

    Raises:
        WrongSplitError: the folder holds other pictures.
    """
    log = FaultLog()
    names = [str(PurePosixPath(file.name).with_suffix("")) for file in files]
    places = pictures.match(names, log)
    images = tuple(
        ImageFile(file, picture)
        for file, name in zip(files, names, strict=True)
        if (picture := places.get(name)) is not None
    )
    return Annotations("sa1b", images, frozenset(), (), log.counts())


def read_sa1b(source: ImageFile, log: FaultLog) -> AnnotatedImage | None:
    """Return the annotations of one picture; None if its file has another format, which is counted in `log`.

    Raises:
        ReadError: the file is no longer there.
    """
    source.json.check()
    name = source.json.name
    try:
        document = load_document(source.json)
        raws = members(document, "annotations")
        image = decode(document["image"], _Image)
    except (AnnotationError, msgspec.ValidationError, KeyError) as error:
        log.add(FaultKind.MALFORMED_RECORD, f"{name}: {error}")
        return None
    objects: dict[int, GroundTruth] = {}
    for found in records(raws, _Annotation, log):
        if found.id in objects:
            log.add(FaultKind.DUPLICATE_ID, f"{name}: annotation {found.id}")
            continue
        objects[found.id] = GroundTruth(
            found.id, None, bytes(found.segmentation), box_of(found.bbox), False, found.area
        )
    return AnnotatedImage(image.image_id, source.picture, image.width, image.height, tuple(objects.values()))
