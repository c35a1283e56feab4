"""What makes annotations unusable as a whole; faults of single records are counted instead (`bhk.evaluation.faults`)."""

from bhk.base.errors import BhkError


class AnnotationError(BhkError):
    """Annotations that cannot be used."""


class UnknownFormatError(AnnotationError):
    """A JSON file that is of none of the known formats, or not of the one that was named."""


class WrongSplitError(AnnotationError):
    """The folder holds other pictures than those that are annotated."""
