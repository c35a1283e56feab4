"""Reading and writing checkpoints in the formats of other programs."""

from bhk.checkpoint.contents import Checkpoint, Source, TensorSpec
from bhk.checkpoint.errors import (
    AlreadyBhkError,
    AmbiguousCheckpointError,
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    LayoutError,
    NotACheckpointError,
    PartOfCheckpointError,
    TensorMismatchError,
    UnknownWeightsError,
    UnreadableCheckpointError,
    UnsafePickleError,
    UnsupportedFormatError,
    UnsupportedTensorError,
)
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.reader import of_module, read
from bhk.checkpoint.writer import write

__all__ = [
    "AlreadyBhkError",
    "AmbiguousCheckpointError",
    "Checkpoint",
    "CheckpointError",
    "CheckpointNotFoundError",
    "CorruptCheckpointError",
    "Layout",
    "LayoutError",
    "NotACheckpointError",
    "PartOfCheckpointError",
    "Source",
    "TensorMismatchError",
    "TensorSpec",
    "UnknownWeightsError",
    "UnreadableCheckpointError",
    "UnsafePickleError",
    "UnsupportedFormatError",
    "UnsupportedTensorError",
    "of_module",
    "read",
    "write",
]
