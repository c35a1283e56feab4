"""Reading an annotation file, or a folder of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bhk.base.files import FilePath
from bhk.evaluation.annotations.coco import read_coco
from bhk.evaluation.annotations.dataset import AnnotatedImage, Annotations, ImageFile
from bhk.evaluation.annotations.document import load_document, recognise
from bhk.evaluation.annotations.errors import AnnotationError, UnknownFormatError
from bhk.evaluation.annotations.pictures import PictureFolder
from bhk.evaluation.annotations.sa1b import list_sa1b, read_sa1b
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import TAR, Place, Places, is_remote, joined, members, remote_members
from bhk.pictures.folder import find_files


def read_annotations(
    path: str | os.PathLike[str], images: str | os.PathLike[str], *, format: str | None = None
) -> Annotations:
    """Read annotations and find their pictures.

    Args:
        path: a JSON file of COCO instances or LVIS v1; for SA-1B, the file of one picture, or a folder or a tar archive of such
            files.
        images: the folder or the tar archive with the pictures.
        format: "coco", "lvis" or "sa1b"; None: recognised by the content.

    Raises:
        AnnotationError: a file cannot be read or is not JSON, or there are no annotated pictures.
        UnknownFormatError: the file has none of the formats, or not the named one.
        WrongSplitError: the folder holds other pictures than the annotated ones.
    """
    source = path if is_remote(path) else Path(path)
    pictures = PictureFolder(images)
    listed = annotation_files(source)
    files = listed.files
    if not files:
        raise AnnotationError(f"{source} holds no JSON files; expected those of SA-1B, one per picture")
    document = load_document(files[0])
    kind = recognise(files[0].described, document, format)
    if kind == "sa1b":
        found = list_sa1b(files, pictures)
    elif len(files) > 1 or files[0].length is not None or Path(source).is_dir():
        raise UnknownFormatError(
            f"{files[0].described} has the format {kind}, which keeps all pictures in one file; give that file"
        )
    else:
        found = read_coco(document, pictures, kind)
    if not found.images:
        raise AnnotationError(f"{source} has annotations for none of the pictures; expected at least one")
    log = FaultLog()
    log.add_counts(found.faults)
    for part in dict.fromkeys((*pictures.damaged, *listed.damaged)):
        log.add(FaultKind.DAMAGED_ARCHIVE, f"{part.name}: {part.reason}")
    return replace(found, faults=log.counts())


def annotation_files(source: FilePath) -> Places:
    """Return the JSON files of a source: the file itself, or those directly in a folder and in all tar archives below it."""
    if is_remote(source):
        return joined(remote_members(os.fsdecode(source), (".json",)))
    path = Path(source)
    if not path.is_dir():
        return (
            members(path, path.name, (".json",))
            if path.suffix.lower() == TAR
            else Places((Place(path.name, str(path)),))
        )
    loose = tuple(Place(file.name, str(file)) for file in path.glob("*.json") if file.is_file())
    return joined([Places(loose), *(members(path / name, name, (".json",)) for name in find_files(path, (TAR,)))])


def resolve(image: AnnotatedImage | ImageFile, log: FaultLog) -> AnnotatedImage | None:
    """Return a picture with its annotations, reading its own file if it has one; None if that cannot be used."""
    return read_sa1b(image, log) if isinstance(image, ImageFile) else image
