"""The result of `read`: the tensors of a checkpoint and what is known about them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from bhk.base.errors import shown
from bhk.checkpoint.errors import UnsupportedTensorError
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.mapped import MappedFile
from bhk.codec.dense import why_not_dense


@dataclass(frozen=True)
class Source:
    """Where a checkpoint came from.

    Attributes:
        name: base name of the file, the Hub address as the user gave it, or the class of a module; never an absolute path.
        files: the files on this machine that hold the checkpoint: all shards, or none for a module.
        index: the index of the shards, if there is one.
        mapped: these files and the index, as they were when they were read.
    """

    name: str
    files: tuple[Path, ...]
    index: Path | None = None
    mapped: tuple[MappedFile, ...] = field(default=(), repr=False)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that were read."""
        return self.files if self.index is None else (*self.files, self.index)

    @property
    def size(self) -> int:
        """Size of all files together in bytes."""
        return sum(file.stat().st_size for file in self.files)

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the checkpoint with its values, which are read now if it is mapped from a file.

        Raises:
            ReadError, ChangedError: the file cannot be read, or was changed.
        """
        found = (file.read(tensor) for file in self.mapped) if tensor.numel() else iter(())
        return next((values for values in found if values is not None), tensor)

    def check(self) -> None:
        """Check that no file was changed since it was read.

        Raises:
            ChangedError: one was.
        """
        for file in self.mapped:
            file.check()


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one model, as they were stored.

    Attributes:
        tensors: CPU tensors by name, in the order of the file, each tensor once. They are mapped from the file where possible,
            and serve for shapes and dtypes; `values` reads what they hold.
        aliases: stored name -> other names of the same tensor (same memory, offset, shape, strides and dtype).
        layout: how to put the tensors back.
        source: the files.
        left_out: what else the files held, in words for the user.
        buffers: names of tensors that are known to be buffers of a module; files do not tell.
    """

    tensors: dict[str, torch.Tensor]
    aliases: dict[str, tuple[str, ...]]
    layout: Layout
    source: Source
    left_out: tuple[str, ...]
    buffers: frozenset[str] = frozenset()

    @cached_property
    def stored_name(self) -> dict[str, str]:
        """Every name, and the name that its tensor is stored under."""
        aliases = {alias: name for name, others in self.aliases.items() for alias in others}
        return {**{name: name for name in self.tensors}, **aliases}

    def values(self, name: str) -> torch.Tensor:
        """Return the tensor of a name or an alias with its values; read it, do not write to it.

        Raises:
            ReadError, ChangedError: its file cannot be read, or was changed.
        """
        return self.source.values(self.tensors[self.stored_name[name]])

    def all_values(self) -> dict[str, torch.Tensor]:
        """Return the tensors of all names; an alias has the tensor of its first name.

        Raises:
            ReadError, ChangedError: a file cannot be read, or was changed.
        """
        found = {name: self.source.values(tensor) for name, tensor in self.tensors.items()}
        return {name: found[stored] for name, stored in self.stored_name.items()}


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
    if fault := why_not_dense(tensor):
        raise not_dense(name, fault)
    return tensor.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg()


def not_dense(name: str, fault: str) -> UnsupportedTensorError:
    """Return the error about a tensor without plain dense data, such as one that "is sparse"."""
    return UnsupportedTensorError(
        f"tensor {shown(name)!r} {fault}; expected a dense tensor, so convert it in the program that made the checkpoint"
    )
