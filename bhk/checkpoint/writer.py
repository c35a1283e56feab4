"""Writing tensors in the formats that other programs read: `write`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from bhk.base.errors import shown
from bhk.base.files import WriteError, check_destination, replace_files
from bhk.base.names import WEIGHT_SUFFIXES
from bhk.checkpoint import safetensors_file, torch_file
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import CheckpointError, TensorMismatchError, UnsupportedFormatError, UnsupportedTensorError
from bhk.checkpoint.folder import INDEX_SUFFIX
from bhk.checkpoint.layout import Layout
from bhk.checkpoint.shards import read_index

_SAFETENSORS = ".safetensors"
_Fetch = Callable[[TensorSpec], torch.Tensor]


def write(
    path: str | os.PathLike[str],
    specs: Sequence[TensorSpec],
    fetch: Callable[[str], torch.Tensor],
    *,
    aliases: Mapping[str, Sequence[str]],
    layout: Layout,
    shard_bytes: int | None = None,
    metadata: Mapping[str, str] | None = None,
    beside: Mapping[str, bytes] | None = None,
    force: bool = False,
    sources: tuple[Path, ...] = (),
    advance: Callable[[int], None] | None = None,
) -> tuple[Path, ...]:
    """Write a checkpoint and return its files. The suffix of `path` determines the format.

    `.safetensors` is written with one tensor in memory at a time. The format has no nesting (the wrapper is dropped, groups
    stay in the names) and no ties (a tied tensor is written under each name). `.pth`, `.pt` and `.bin` are written by
    torch.save with the whole model in memory, nested as `layout` says, and keep ties.

    Args:
        path: the file to write.
        specs: the tensors in the order of the file.
        fetch: returns the tensor of a name; called once for each, in the order in which the data are written.
        aliases: name -> other names of the same tensor.
        layout: nesting and prefix of the names.
        shard_bytes: if the tensors are larger than this, write `STEM-00001-of-0000N.SUFFIX`, … and `path` + `.index.json`,
            as Hugging Face libraries do. Shards have flat names; a tensor is never divided.
        metadata: string pairs for the header of `.safetensors`; other formats cannot hold them.
        beside: names and contents of other files to write into the same folder; all files take their places together.
        force: replace existing files.
        sources: files that must not be replaced because they are being read.
        advance: called with the bytes of each tensor after it was fetched.

    Raises:
        UnsupportedFormatError: the suffix is unknown.
        UnsupportedTensorError, TensorMismatchError, LayoutError: the tensors do not fit the format, their announcement or the
            layout; nothing is written.
        WriteError: the destination exists or cannot be written; all files are as they were.
    """
    path = Path(path)
    if path.suffix not in WEIGHT_SUFFIXES:
        raise UnsupportedFormatError(
            f"cannot write {path}: unknown suffix {path.suffix!r}; use {', '.join(WEIGHT_SUFFIXES)}"
        )
    if shard_bytes is not None and shard_bytes <= 0:
        raise UnsupportedFormatError(f"cannot write shards of {shard_bytes} bytes; give a positive size")
    entries = [Entry(spec, (spec.name, *aliases.get(spec.name, ()))) for spec in specs]
    check_destination(path, force=force, sources=sources)
    shards = [entries] if shard_bytes is None else _cut(entries, shard_bytes)
    if path.suffix == _SAFETENSORS or len(shards) > 1:
        shards = [[Entry(e.spec, tuple(map(layout.flat, e.names))) for e in shard] for shard in shards]
        layout = Layout()
    _check(path, shards, layout)
    checked = _checking(fetch, advance)
    index = path.with_name(path.name + INDEX_SUFFIX)
    files: tuple[Path, ...] = (path,)
    older, others = frozenset[Path](), dict[Path, bytes]()
    if len(shards) > 1:
        older = _shards_of(index, path)
        files = _shard_names(path, len(shards), older)
        others[index] = _index(files, shards)  # after the shards, because it says which belong together
    others |= {path.with_name(name): data for name, data in (beside or {}).items()}
    for file in (*files, *others):
        check_destination(file, force=force, sources=sources)
    with replace_files(force=force) as new:
        for file, shard in zip(files, shards, strict=True):
            _save(file, new.open(file), shard, layout, checked, metadata or {})
        for file, data in others.items():
            new.open(file).write(data)
    if len(shards) > 1:
        _remove_older(path, older)
    return (*files, *others)


def _cut(entries: Sequence[Entry], limit: int) -> list[list[Entry]]:
    """Return `entries` in order, divided into shards of at most `limit` bytes, or of one larger tensor."""
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    return shards


def _check(path: Path, shards: list[list[Entry]], layout: Layout) -> None:
    """Raise an error, before anything is written, if the format cannot hold the tensors."""
    seen: set[tuple[str | None, str]] = set()
    for entry in (entry for shard in shards for entry in shard):
        if path.suffix == _SAFETENSORS:
            safetensors_file.check(entry)
        for name in entry.names:
            place = layout.split(name)
            if place in seen:
                raise UnsupportedTensorError(f"two tensors are named {shown(name)!r}; expected different names")
            seen.add(place)


def _checking(fetch: Callable[[str], torch.Tensor], advance: Callable[[int], None] | None) -> _Fetch:
    """Return a function that fetches a tensor, compares it with its spec and reports its bytes."""

    def fetch_checked(spec: TensorSpec) -> torch.Tensor:
        tensor = fetch(spec.name).detach().cpu()
        if tensor.dtype != spec.dtype or tuple(tensor.shape) != spec.shape:
            raise TensorMismatchError(
                f"tensor {shown(spec.name)!r} came as {tensor.dtype} {list(tensor.shape)}; expected {spec.dtype}"
                f" {list(spec.shape)}"
            )
        if advance is not None:
            advance(spec.nbytes)
        return tensor

    return fetch_checked


def _save(
    path: Path, file: BinaryIO, entries: Sequence[Entry], layout: Layout, fetch: _Fetch, metadata: Mapping[str, str]
) -> None:
    if path.suffix == _SAFETENSORS:
        safetensors_file.save(file, entries, fetch, metadata)
    else:
        torch_file.save(file, entries, layout, fetch)


def _shard_names(path: Path, count: int, older: Collection[Path]) -> tuple[Path, ...]:
    """Return the names of new shards. None of `older` is among them: the index of those names them until it is replaced."""
    for version in itertools.count(1):
        stem = path.stem if version == 1 else f"{path.stem}.{version}"
        names = tuple(path.with_name(f"{stem}-{i:05d}-of-{count:05d}{path.suffix}") for i in range(1, count + 1))
        if not any(name in older for name in names):
            return names
    raise AssertionError


def _shards_of(index: Path, path: Path) -> frozenset[Path]:
    """Return the shards that an index written by `write` names; none if there is no such index."""
    try:
        names = set(read_index(index).values())
    except CheckpointError:
        return frozenset()
    ours = re.compile(rf"{re.escape(path.stem)}(\.\d+)?-\d{{5}}-of-\d{{5}}{re.escape(path.suffix)}")
    return frozenset(index.with_name(name) for name in names if ours.fullmatch(name))


def _remove_older(path: Path, older: Iterable[Path]) -> None:
    """Remove what the new shards replace."""
    # Readers prefer a whole file to an index of the same name, so an old file would hide the new shards.
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot remove the old {path}: {error.strerror or error}; it hides the new shards") from error
    for file in older:
        with contextlib.suppress(OSError):  # no index names it
            file.unlink()


def _index(files: Sequence[Path], shards: list[list[Entry]]) -> bytes:
    weight_map = {
        name: file.name for file, shard in zip(files, shards, strict=True) for entry in shard for name in entry.names
    }
    total = sum(entry.nbytes for shard in shards for entry in shard)
    return (json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n").encode()
