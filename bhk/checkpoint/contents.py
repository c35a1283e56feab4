"""The result of `read`: the tensors of a checkpoint and what is known about them."""

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
        name: base name of the file, the Hub address as the user gave it, or the class of a module; never an absolute path.
        files: the files on this machine that hold the checkpoint: all shards, or none for a module.
        index: the index of the shards, if there is one.
    """

    name: str
    files: tuple[Path, ...]
    index: Path | None = None

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that were read."""
        return self.files if self.index is None else (*self.files, self.index)

    @property
    def size(self) -> int:
        """Size of all files together in bytes."""
        return sum(file.stat().st_size for file in self.files)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one model, as they were stored.

    Attributes:
        tensors: CPU tensors by name, in the order of the file, each tensor once. They are mapped from the file where possible,
            so that a tensor takes memory only while it is used. Read them, but do not write to them.
        aliases: stored name -> other names of the same tensor (same memory, offset, shape, strides and dtype).
        layout: how to put the tensors back.
        source: the files.
        left_out: what else the files held, in words for the user.
    """

    tensors: dict[str, torch.Tensor]
    aliases: dict[str, tuple[str, ...]]
    layout: Layout
    source: Source
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a tensor that has not been computed yet."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the dense data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Entry:
    """A tensor to write, and all its names in the file, its own first."""

    spec: TensorSpec
    names: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes in a format without ties, which has the tensor once for each name."""
        return self.spec.nbytes * len(self.names)


def untie(named: Iterable[tuple[str, torch.Tensor]]) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """Return each tensor under its first name, and its other names by the first.

    Raises:
        UnsupportedTensorError: a tensor does not have plain dense data.
    """
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    first_name: dict[tuple[object, ...], str] = {}
    for name, stored in named:
        tensor = _plain(name, stored)
        # All empty storages have address 0, although they are not tied.
        address = tensor.untyped_storage().data_ptr() if tensor.numel() else name
        memory = (address, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        first = first_name.setdefault(memory, name)
        if first == name:
            tensors[name] = tensor
        else:
            aliases[first] = (*aliases.get(first, ()), name)
    return tensors, aliases


def _plain(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` as a plain dense tensor without gradient that shares its memory."""
    if tensor.is_meta:
        fault = "has no data (device meta)"
    elif tensor.is_quantized:
        fault = f"is quantized ({tensor.dtype})"
    elif tensor.layout is not torch.strided or tensor.is_nested:
        fault = "is nested" if tensor.is_nested else f"is sparse ({tensor.layout})"
    else:
        return tensor.detach().resolve_conj().resolve_neg()
    raise UnsupportedTensorError(
        f"tensor {shown(name)!r} {fault}; expected a dense tensor, so convert it in the program that made the checkpoint"
    )
