"""What `read` returns: the tensors of a checkpoint and what is known about them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from bhk.base.errors import shown
from bhk.checkpoint.errors import UnsupportedTensorError
from bhk.checkpoint.layout import Layout


@dataclass(frozen=True)
class Source:
    """Where a checkpoint came from.

    Attributes:
        name: the file's base name or the Hub id as the user gave it, never an absolute path; the class of a module.
        files: the files on this machine that hold it; all the shards of a sharded one, none of a module.
        index: the index of the shards.
    """

    name: str
    files: tuple[Path, ...]
    index: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Every file that was read."""
        return self.files if self.index is None else (*self.files, self.index)

    @property
    def size(self) -> int:
        """Bytes of all the files together."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one model, as they were stored.

    Attributes:
        tensors: name to CPU tensor in the order of the file, each tensor once; mapped from the file where it can be,
            so that a tensor costs memory only while it is looked at. To be read, not written to.
        aliases: stored name to the other names of the same tensor (same memory, offset, shape, strides and dtype).
        layout: how to put the tensors back.
        source: the files.
        left_out: what the files held beside the weights, in words for the user.
    """

    tensors: dict[str, torch.Tensor]
    aliases: dict[str, tuple[str, ...]]
    layout: Layout
    source: Source
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor will be, before it is there."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the dense data."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Entry:
    """A tensor to be written and all its names in the file, its own first."""

    spec: TensorSpec
    names: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in a format without ties: the tensor once for each name."""
        return self.spec.nbytes * len(self.names)


def untie(named: Iterable[tuple[str, torch.Tensor]]) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """Return each tensor under the first of its names, and the other names by the first.

    Raises:
        UnsupportedTensorError: a tensor has no plain dense data.
    """
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    first_name: dict[tuple[object, ...], str] = {}
    for name, stored in named:
        tensor = _plain(name, stored)
        # Empty storages all sit at address 0: they are equal without being tied.
        address = tensor.untyped_storage().data_ptr() if tensor.numel() else name
        identity = (address, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        first = first_name.setdefault(identity, name)
        if first == name:
            tensors[name] = tensor
        else:
            aliases[first] = (*aliases.get(first, ()), name)
    return tensors, aliases


def _plain(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` as a plain dense one without gradient, sharing its memory."""
    if tensor.is_meta:
        fault = "has no data (device meta)"
    elif tensor.is_quantized:
        fault = f"is quantized ({tensor.dtype})"
    elif tensor.layout is not torch.strided or tensor.is_nested:
        fault = "is nested" if tensor.is_nested else f"is sparse ({tensor.layout})"
    else:
        return tensor.detach().resolve_conj().resolve_neg()
    raise UnsupportedTensorError(
        f"tensor {shown(name)!r} {fault}; expected a dense tensor: convert it in the program that made the checkpoint"
    )
