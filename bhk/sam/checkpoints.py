"""Reading a checkpoint that may be of the family."""

from __future__ import annotations

import os
from dataclasses import replace

from torch import nn

from bhk.checkpoint import Checkpoint, of_module, read
from bhk.sam.recognise import Recognised, recognise


def read_checkpoint(
    src: str | os.PathLike[str] | nn.Module, key: str | None = None
) -> tuple[Checkpoint, Recognised | None]:
    """Read a checkpoint, or take a module's state dict, and recognise it.

    The prefix of a wrapper module is stripped from the names of a recognised one.

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
