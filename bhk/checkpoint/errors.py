"""Every way in which somebody else's checkpoint can disappoint."""

from __future__ import annotations

from bhk.base.errors import BhkError
from bhk.base.files import ReadError


class CheckpointError(BhkError):
    """A checkpoint cannot be read or written."""


class CheckpointNotFoundError(CheckpointError):
    """There is no such file, folder or repository."""


class UnreadableCheckpointError(CheckpointError, ReadError):
    """The system did not let the file be read."""


class NotACheckpointError(CheckpointError):
    """The file holds something other than weights with names."""


class AlreadyBhkError(NotACheckpointError):
    """The file is a .bhk file, which is bhk's own output."""


class CorruptCheckpointError(CheckpointError):
    """The file is truncated, damaged or contradicts itself."""


class UnsafePickleError(CheckpointError):
    """The file would run code when loaded."""


class AmbiguousCheckpointError(CheckpointError):
    """There is more than one set of weights; `choices` says what `key` may be, or which files there are."""

    def __init__(self, message: str, choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.choices = choices


class UnknownWeightsError(CheckpointError):
    """`key` names no set of weights in the file."""


class UnsupportedTensorError(CheckpointError):
    """A tensor is sparse, quantized, without data, or of a type that the output format lacks."""


class UnsupportedFormatError(CheckpointError):
    """The suffix of the output names no format that bhk writes."""


class TensorMismatchError(CheckpointError):
    """A tensor to be written is not what was announced."""


class LayoutError(CheckpointError):
    """The stored description of a checkpoint's layout is malformed."""
