"""Opening what a user names: a checkpoint, or a .bhk file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bhk.bhkfile import open_file
from bhk.checkpoint import AlreadyBhkError, NotACheckpointError
from bhk.hub.address import address_of
from bhk.hub.download import local_file
from bhk.sam.checkpoints import read_checkpoint


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint or a .bhk file, decoded one at a time.

    Attributes:
        label: its base name, for messages.
        names: every name, aliases included.
        tensor: name -> tensor.
    """

    label: str
    names: tuple[str, ...]
    tensor: Callable[[str], Tensor]


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike[str], key: str | None = None) -> Iterator[TensorFile]:
    """Open a .bhk file or a checkpoint, on this machine or the Hub; a folder or repository that has both gives the checkpoint.

    Raises:
        HubError, ContainerError, CheckpointError: it cannot be read.
    """
    label = Path(path).name
    if address_of(path) is None:
        path = local_file(path)
    try:
        checkpoint, _ = read_checkpoint(path, key)
    except NotACheckpointError as error:
        if not isinstance(error, AlreadyBhkError) and address_of(path) is None:
            raise
        with open_file(local_file(path)) as file:
            yield TensorFile(label, file.names, file.tensor)
        return
    tensors = dict(checkpoint.tensors)
    for name, aliases in checkpoint.aliases.items():
        tensors.update(dict.fromkeys(aliases, tensors[name]))
    yield TensorFile(label, tuple(tensors), tensors.__getitem__)
