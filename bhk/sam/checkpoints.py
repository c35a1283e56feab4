"""Reading a checkpoint that may be of the family."""

from __future__ import annotations

import os
from dataclasses import replace

from bhk.checkpoint import Checkpoint, read
from bhk.sam.recognise import Recognised, recognise


def read_checkpoint(src: str | os.PathLike[str], key: str | None = None) -> tuple[Checkpoint, Recognised | None]:
    """Read a checkpoint and recognise it; a wrapper module's prefix is stripped from the names of a recognised one.

    Raises:
        CheckpointError: see `bhk.checkpoint.read`.
    """
    checkpoint = read(src, key=key)
    recognised = recognise(
        {
            name: tuple(tensor.shape)
            for stored, tensor in checkpoint.tensors.items()
            for name in (stored, *checkpoint.aliases.get(stored, ()))
        }
    )
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
