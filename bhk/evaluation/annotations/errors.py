"""Errors that make annotations unusable. Faults of single records are counted instead (`bhk.evaluation.faults`)."""

from bhk.base.errors import BhkError


class AnnotationError(BhkError):
    """Annotations cannot be used."""


class UnknownFormatError(AnnotationError):
    """A JSON file has none of the known formats, or not the named one."""


class WrongSplitError(AnnotationError):
    """The folder holds other pictures than the annotated ones."""
