"""Errors of reading and writing checkpoints in the formats of other programs."""

from __future__ import annotations

from bhk.base.errors import BhkError
from bhk.base.files import ReadError


class CheckpointError(BhkError):
    """A checkpoint cannot be read or written."""


class CheckpointNotFoundError(CheckpointError):
    """There is no such file, folder or repository."""


class UnreadableCheckpointError(CheckpointError, ReadError):
    """The system could not read the file."""


class NotACheckpointError(CheckpointError):
    """The file does not hold named weights."""


class AlreadyBhkError(NotACheckpointError):
    """The file is already a .bhk file."""


class CorruptCheckpointError(CheckpointError):
    """The file is truncated or damaged, or contradicts itself."""


class PartOfCheckpointError(CheckpointError):
    """The file holds a part of a checkpoint only: a shard, or what one of several processes saved."""


class UnsafePickleError(CheckpointError):
    """The file would run code when loaded."""


class AmbiguousCheckpointError(CheckpointError):
    """There are several sets of weights; `choices` lists the possible keys, or the files."""

    def __init__(self, message: str, choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.choices = choices


class UnknownWeightsError(CheckpointError):
    """The file holds no set of weights under the given key."""


class UnsupportedTensorError(CheckpointError):
    """A tensor is sparse or quantized, has no data, or has a dtype that the output format cannot hold."""


class UnsupportedFormatError(CheckpointError):
    """bhk does not write the format that the suffix of the output stands for."""


class TensorMismatchError(CheckpointError):
    """A tensor to write does not have the announced dtype or shape."""


class LayoutError(CheckpointError):
    """The stored description of a checkpoint's layout is invalid."""
