"""Other people's checkpoint formats, in and out."""

from bhk.checkpoint.contents import Checkpoint, Source
from bhk.checkpoint.errors import (
    AlreadyBhkError,
    AmbiguousCheckpointError,
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    HubError,
    LayoutError,
    NotACheckpointError,
    UnknownKeyError,
    UnreadableCheckpointError,
    UnsafePickleError,
    UnsupportedFormatError,
    UnsupportedTensorError,
)
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.reader import read

__all__ = [
    "AlreadyBhkError",
    "AmbiguousCheckpointError",
    "Checkpoint",
    "CheckpointError",
    "CheckpointNotFoundError",
    "CorruptCheckpointError",
    "HubError",
    "Layout",
    "LayoutError",
    "NotACheckpointError",
    "Source",
    "UnknownKeyError",
    "UnreadableCheckpointError",
    "UnsafePickleError",
    "UnsupportedFormatError",
    "UnsupportedTensorError",
    "read",
]
