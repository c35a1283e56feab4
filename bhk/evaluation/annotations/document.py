"""Annotation files as JSON, and how their format is recognised."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from bhk.base.errors import option
from bhk.base.files import PASSING, ReadError
from bhk.evaluation.annotations.dataset import FORMATS, Format
from bhk.evaluation.annotations.errors import AnnotationError, UnknownFormatError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import Place
from bhk.pictures.prompts import Box

Document = Mapping[str, msgspec.Raw]  # the members of a JSON object, still encoded
Record = TypeVar("Record", bound=msgspec.Struct)

_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last for deeply nested lists

_FORMATS = "expected COCO instances, LVIS v1 (both with images and annotations) or SA-1B (image and annotations)"


def load_json(place: Place, kind: type[Any]) -> Any:
    """Return a JSON file, decoded by msgspec as the type `kind`.

    Raises:
        AnnotationError: the file cannot be read or is not JSON.
        ReadError: the system cannot read it now.
        msgspec.ValidationError: it is JSON of another type.
    """
    try:
        text = place.read()
    except OSError as error:
        if error.errno in PASSING:  # else it would be counted as a fault of the annotations
            raise ReadError(f"cannot read {place.described}: {error.strerror}; try again") from error
        raise AnnotationError(f"cannot read {place.described}: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        raise
    except _NO_JSON as error:
        return decode(_without_nan(place.described, text, error), kind)


def decode(text: bytes | msgspec.Raw, kind: Any) -> Any:
    """Return a part of a JSON file, decoded by msgspec as the type `kind`.

    Raises:
        msgspec.ValidationError: it has another type, or is not JSON (a file is not checked as a whole).
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        raise
    except _NO_JSON as error:
        raise msgspec.ValidationError(str(error)) from error


def _without_nan(path: str, text: bytes, error: Exception) -> bytes:
    """Return what Python's json module wrote as valid JSON, with null in place of NaN and Infinity.

    Raises:
        AnnotationError: Python cannot read it, either.
    """
    try:
        return msgspec.json.encode(json.loads(text))
    except (ValueError, OverflowError, RecursionError):
        raise AnnotationError(f"{path} is not JSON: {error}") from error


def load_document(place: Place) -> Document:
    """Return the members of an annotation file.

    Raises:
        AnnotationError: the file cannot be read or is not JSON.
        UnknownFormatError: it is JSON, but not an object.
    """
    try:
        return load_json(place, dict[str, msgspec.Raw])  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise UnknownFormatError(
            f"{place.described} is JSON, but not an object ({error}); {_FORMATS}; "
            f"give a list of results as {option('detections')}"
        ) from error


def recognise(path: str, document: Document, named: str | None) -> Format:
    """Return the format of a document.

    Args:
        path: path of the file, for messages.
        document: the document.
        named: the format it should have; None: any.

    Raises:
        UnknownFormatError: it has no known format, or not the named one.
    """
    if named is not None and named not in FORMATS:
        raise UnknownFormatError(f"unknown format {named!r}; choose {', '.join(FORMATS)}")
    has_image, has_images = "image" in document, "images" in document
    if "annotations" not in document or not (has_image or has_images):
        raise UnknownFormatError(f"{path} has {_members(document)}; {_FORMATS}")
    if named is not None and (named == "sa1b") != has_image:
        raise UnknownFormatError(f"{path} has {_members(document)}, so its format is not {named}; {_FORMATS}")
    if named is None:
        return "sa1b" if has_image else _coco_or_lvis(document)
    return next(name for name in FORMATS if name == named)


def _coco_or_lvis(document: Document) -> Format:
    """Recognise LVIS by keys that only its images have."""
    for raw in members(document, "images")[:1]:
        with contextlib.suppress(msgspec.ValidationError):
            image = decode(raw, dict[str, msgspec.Raw])
            if "neg_category_ids" in image or "not_exhaustive_category_ids" in image:
                return "lvis"
    return "coco"


def members(document: Document, name: str) -> list[msgspec.Raw]:
    """Return the elements of a list in a document, still encoded; empty if it has no such list."""
    try:
        return decode(document[name], list[msgspec.Raw]) if name in document else []
    except msgspec.ValidationError as error:
        raise UnknownFormatError(f"{name} is not a list ({error}); {_FORMATS}") from error


def records(raws: Sequence[msgspec.Raw], kind: type[Record], log: FaultLog) -> list[Record]:
    """Return the elements that are records of this kind, and count the others in `log`."""
    found = []
    for number, raw in enumerate(raws):
        try:
            found.append(decode(raw, kind))
        except msgspec.ValidationError as error:
            log.add(FaultKind.MALFORMED_RECORD, f"{kind.__name__.strip('_').lower()} {number}: {error}")
    return found


def box_of(raw: msgspec.Raw) -> Box | None:
    """Return a JSON box [x, y, width, height] as (x0, y0, x1, y1), or None if it is not a box."""
    try:
        x, y, width, height = decode(raw, tuple[float, float, float, float])
    except msgspec.ValidationError:
        return None
    return x, y, x + width, y + height


def _members(document: Document) -> str:
    return ", ".join(list(document)[:8]) or "no members"
