"""Writing tensors in the formats that other programs read: `write`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch

from bhk.base.errors import shown
from bhk.base.files import WriteError, check_destination, replace_file
from bhk.base.names import WEIGHT_SUFFIXES
from bhk.checkpoint import safetensors_file, torch_file
from bhk.checkpoint.contents import Entry, TensorSpec
from bhk.checkpoint.errors import TensorMismatchError, UnsupportedFormatError, UnsupportedTensorError
from bhk.checkpoint.folder import INDEX_SUFFIX
from bhk.checkpoint.layout import Layout

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
        force: replace existing files.
        sources: files that must not be replaced because they are being read.
        advance: called with the bytes of each tensor after it was fetched.

    Raises:
        UnsupportedFormatError: the suffix is unknown.
        UnsupportedTensorError, TensorMismatchError, LayoutError: the tensors do not fit the format, their announcement or the
            layout; nothing is written.
        WriteError: the destination exists or cannot be written; no new file is left behind.
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
    if len(shards) == 1:
        with replace_file(path, force=force) as file:
            _save(path, file, shards[0], layout, checked, metadata or {})
        return (path,)
    return _write_shards(path, shards, checked, metadata or {}, force, sources)


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


def _write_shards(
    path: Path,
    shards: list[list[Entry]],
    fetch: _Fetch,
    metadata: Mapping[str, str],
    force: bool,
    sources: tuple[Path, ...],
) -> tuple[Path, ...]:
    """Write the shards and their index. All data are written before any file gets its name, and the index gets its last."""
    index = path.with_name(path.name + INDEX_SUFFIX)
    count = len(shards)
    files = tuple(path.with_name(f"{path.stem}-{i:05d}-of-{count:05d}{path.suffix}") for i in range(1, count + 1))
    for file in (*files, index):
        check_destination(file, force=force, sources=sources)
    with _removing_on_failure(files), contextlib.ExitStack() as stack:
        # The stack closes in reverse order, so the file opened first gets its name last.
        index_file = stack.enter_context(replace_file(index))
        index_file.write(_index(files, shards))
        for file, shard in zip(files, shards, strict=True):
            _save(file, stack.enter_context(replace_file(file)), shard, Layout(), fetch, metadata)
    # Readers prefer a whole file to an index of the same name, so an old file would hide the new shards.
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(f"cannot remove the old {path}: {error.strerror or error}; it hides the new shards") from error
    return (*files, index)


@contextlib.contextmanager
def _removing_on_failure(files: Sequence[Path]) -> Iterator[None]:
    """If the block fails, remove those of `files` that did not exist before it."""
    new = [file for file in files if not file.exists()]
    try:
        yield
    except BaseException:
        for file in new:
            with contextlib.suppress(OSError):
                file.unlink()
        raise


def _index(files: Sequence[Path], shards: list[list[Entry]]) -> bytes:
    weight_map = {
        name: file.name for file, shard in zip(files, shards, strict=True) for entry in shard for name in entry.names
    }
    total = sum(entry.nbytes for shard in shards for entry in shard)
    return (json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n").encode()
