"""Reading an annotation file, or a folder of them."""

from __future__ import annotations

import os
from pathlib import Path

from bhk.evaluation.annotations.coco import read_coco
from bhk.evaluation.annotations.dataset import AnnotatedImage, Annotations, ImageFile
from bhk.evaluation.annotations.document import load_document, recognise
from bhk.evaluation.annotations.errors import AnnotationError, UnknownFormatError
from bhk.evaluation.annotations.pictures import PictureFolder
from bhk.evaluation.annotations.sa1b import list_sa1b, read_sa1b
from bhk.evaluation.faults import FaultLog


def read_annotations(
    path: str | os.PathLike[str], images: str | os.PathLike[str], *, format: str | None = None
) -> Annotations:
    """Read annotations and find their pictures.

    Args:
        path: a JSON file of COCO instances or LVIS v1; for SA-1B, the file of one picture or a folder of such files.
        images: the folder with the pictures.
        format: "coco", "lvis" or "sa1b"; None: recognised by the content.

    Raises:
        AnnotationError: a file cannot be read or is not JSON, or there are no annotated pictures.
        UnknownFormatError: the file has none of the formats, or not the named one.
        WrongSplitError: the folder holds other pictures than the annotated ones.
    """
    source = Path(path)
    pictures = PictureFolder(images)
    files = sorted(file for file in source.glob("*.json") if file.is_file()) if source.is_dir() else [source]
    if not files:
        raise AnnotationError(f"{source} holds no JSON files; expected those of SA-1B, one per picture")
    document = load_document(files[0])
    kind = recognise(files[0], document, format)
    if kind == "sa1b":
        found = list_sa1b(files, pictures)
    elif source.is_dir():
        raise UnknownFormatError(
            f"{files[0]} has the format {kind}, which keeps all pictures in one file; give that file"
        )
    else:
        found = read_coco(document, pictures, kind)
    if not found.images:
        raise AnnotationError(f"{source} has annotations for none of the pictures; expected at least one")
    return found


def resolve(image: AnnotatedImage | ImageFile, log: FaultLog) -> AnnotatedImage | None:
    """Return a picture with its annotations, reading its own file if it has one; None if that cannot be used."""
    return read_sa1b(image, log) if isinstance(image, ImageFile) else image
