"""Weights divided into several files, with an index that says which tensor is where."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import torch

from bhk.base.errors import listed, shown
from bhk.base.files import reading
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.errors import CorruptCheckpointError, PartOfCheckpointError, UnreadableCheckpointError
from bhk.checkpoint.folder import INDEX_SUFFIX

MAX_INDEX_BYTES = 32_000_000
_SHARD = re.compile(r"-(\d+)-of-(\d+)(\.\w+)$")
# What processes save that hold parts of each tensor: tensor and pipeline parallel, LLaMA's own files.
_RANK = re.compile(r"(?:(?:^|_)(?:mp|tp|pp)_rank_|^consolidated\.)(\d+)")


def read_index(path: Path) -> dict[str, str]:
    """Return the file name of each tensor, from the index at `path`. Files are relative to the folder of the index.

    Raises:
        CorruptCheckpointError: the index is invalid, or names a file outside its folder.
    """
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise CorruptCheckpointError(
                f"index {path} is larger than {MAX_INDEX_BYTES} bytes; expected a list of names"
            )
        weight_map = parse_object(path.read_bytes()).get("weight_map")
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except StrictJsonError as error:
        raise CorruptCheckpointError(f"index {path} is damaged ({shown(error)}); get it again") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptCheckpointError(f"index {path} has no weight_map; expected one from tensor to file names")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _stays_inside(file):
            raise CorruptCheckpointError(
                f"index {path} puts tensor {shown(name)!r} into {shown(file)!r}; expected a file in its folder"
            )
    return weight_map


def _stays_inside(file: str) -> bool:
    """Return whether `file` is, on every system, a relative path that does not leave its folder."""
    parts = PurePosixPath(file).parts
    return bool(parts) and not file.startswith("/") and ".." not in parts and not re.search(r"[\\:\0]", file)


def check_whole(path: Path, label: str) -> None:
    """Check that the file at `path` does not hold a part of a checkpoint only, by its name and those beside it.

    Raises:
        PartOfCheckpointError: it does.
    """
    shard = _SHARD.search(path.name)
    if shard and int(shard[2]) > 1:
        index = path.name[: shard.start()] + shard[3] + INDEX_SUFFIX
        raise PartOfCheckpointError(
            f"{label} is shard {int(shard[1])} of {int(shard[2])} of a checkpoint; give its folder, or its index ({index})"
        )
    if rank := _RANK.search(path.name):
        before, after = path.name[: rank.start(1)], path.name[rank.end(1) :]
        pattern = re.compile(re.escape(before) + r"\d+" + re.escape(after))
        with reading(path.parent):
            parts = sorted(file.name for file in path.parent.iterdir() if pattern.fullmatch(file.name))
        if len(parts) > 1:
            raise PartOfCheckpointError(
                f"{label} is one of {len(parts)} parts of a checkpoint ({listed(parts)}), one for each process that saved it; "
                "put them together with the program that did"
            )


def shard_files(index: Path, weight_map: dict[str, str]) -> tuple[Path, ...]:
    """Return the shards that an index names, sorted by name.

    Raises:
        CorruptCheckpointError: some are missing.
    """
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not (index.parent / file).is_file()]
    if missing:
        raise CorruptCheckpointError(f"index {index} names missing shards: {listed(missing)}; get them too")
    return tuple(index.parent / file for file in files)


def load_shards(
    index: Path, weight_map: dict[str, str], load: Callable[[Path], dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return the tensors of all shards, ordered by file name and then as in the file.

    Raises:
        CorruptCheckpointError: index and shards contradict each other.
    """
    tensors: dict[str, torch.Tensor] = {}
    home: dict[str, str] = {}
    for path in shard_files(index, weight_map):
        file = path.relative_to(index.parent).as_posix()
        for name, tensor in load(path).items():
            if name in tensors:
                raise CorruptCheckpointError(f"tensor {shown(name)!r} is in two shards, {home[name]} and {file}")
            tensors[name], home[name] = tensor, file
    for name, file in weight_map.items():
        if home.get(name) != PurePosixPath(file).as_posix():
            found = f"it is in {home[name]}" if name in home else "it is in no shard"
            raise CorruptCheckpointError(f"index {index} puts tensor {shown(name)!r} into {shown(file)}, but {found}")
    return tensors
