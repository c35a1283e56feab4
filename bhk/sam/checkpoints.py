"""Opening what a user names: a checkpoint, of the family or not, or a .bhk file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from bhk.base.names import BHK_SUFFIX
from bhk.checkpoint import Checkpoint, NotACheckpointError, of_module, read
from bhk.container.provenance import made_with
from bhk.container.reader import is_bhk
from bhk.file.bhkfile import open_file
from bhk.hub.address import address_of
from bhk.hub.download import local_file
from bhk.sam.configuration import deviations
from bhk.sam.recognise import Recognised, recognise


def read_checkpoint(
    src: str | os.PathLike[str] | nn.Module, key: str | None = None
) -> tuple[Checkpoint, Recognised | None]:
    """Read a checkpoint, or a module's state dict, and recognise its model.

    If the model is recognised, the prefix of a wrapper module is stripped from the names.

    Raises:
        CheckpointError: see `bhk.checkpoint.read`.
    """
    checkpoint = of_module(src) if isinstance(src, nn.Module) else read(src, key=key)
    recognised = recognise(
        {
            name: tuple(tensor.shape)
            for stored, tensor in checkpoint.tensors.items()
            for name in (stored, *checkpoint.aliases.get(stored, ()))
        }
    )
    if recognised is not None and checkpoint.source.files:
        folder = checkpoint.source.files[0].parent
        recognised = replace(recognised, deviations=deviations(recognised.family.name, folder))
    if recognised is None or not recognised.prefix:
        return checkpoint, recognised
    cut = len(recognised.prefix)
    stripped = replace(
        checkpoint,
        tensors={name[cut:]: tensor for name, tensor in checkpoint.tensors.items()},
        aliases={name[cut:]: tuple(alias[cut:] for alias in names) for name, names in checkpoint.aliases.items()},
        layout=replace(checkpoint.layout, prefix=checkpoint.layout.prefix + recognised.prefix),
    )
    return stripped, recognised


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a checkpoint or a .bhk file, decoded one at a time.

    Attributes:
        label: the file's base name, for messages.
        names: all names, including aliases.
        tensor: returns the tensor of a name.
        made_with: how a .bhk file was made; None for a checkpoint.
    """

    label: str
    names: tuple[str, ...]
    tensor: Callable[[str], Tensor]
    made_with: str | None = None


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike[str], key: str | None = None) -> Iterator[TensorFile]:
    """Open a .bhk file or a checkpoint, here or on the Hub. If a folder or repository has both, open the checkpoint.

    Raises:
        HubError, ReadError, FormatError, CheckpointError: it cannot be read.
    """
    label = Path(path).name
    checkpoint = _checkpoint(path, key)
    if checkpoint is None:
        with open_file(local_file(path)) as file:
            file.check_size()
            yield TensorFile(label, file.names, file.tensor, made_with(file.container.header))
        return
    yield TensorFile(label, tuple(checkpoint.stored_name), checkpoint.values)


def _checkpoint(path: str | os.PathLike[str], key: str | None) -> Checkpoint | None:
    """Return the checkpoint that a user names, or None if it is a .bhk file."""
    if address_of(path) is None:
        path = local_file(path)
        if is_bhk(path):
            return None
        try:
            return read_checkpoint(path, key)[0]
        except NotACheckpointError as error:
            raise NotACheckpointError(f"{error.marked}; a {BHK_SUFFIX} file is fine, too") from error
    try:
        return read_checkpoint(path, key)[0]
    except NotACheckpointError:  # a repository without one
        return None
