"""Which checkpoints a list of files, folders and patterns stands for, and where each is written."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from bhk.base.errors import listed
from bhk.base.files import WriteError
from bhk.checkpoint.errors import AmbiguousCheckpointError, CheckpointNotFoundError, UnreadableCheckpointError
from bhk.checkpoint.folder import STANDARD, checkpoints
from bhk.conversion.destination import default_destination
from bhk.hub.address import SCHEME, address_of
from bhk.sam.parts import is_in_two_files


@dataclass(frozen=True)
class Planned:
    """A checkpoint to convert.

    Attributes:
        source: the file, the folder or the address.
        path: the file to write, within the folder of results.
    """

    source: str
    path: PurePath


def find_sources(given: Sequence[str | os.PathLike[str]]) -> tuple[Planned, ...]:
    """Return the checkpoints that files, folders, patterns and addresses on the Hub stand for, in this order.

    A folder stands for the checkpoints in it and in its subfolders, and its results have the same subfolders. A folder that is
    one checkpoint itself, which holds model.safetensors, an index of its shards or the two files of MobileSAMv2, stands for
    that one. Hidden folders, links to folders, and the states of optimizers are left out. What is named twice counts once.

    Raises:
        CheckpointNotFoundError: there is no such file, or a folder or a pattern holds no checkpoint.
        AmbiguousCheckpointError: a folder is one checkpoint and holds others as well.
        WriteError: two checkpoints would be written to one file.
    """
    found = tuple(dict.fromkeys(planned for text in given for planned in _expanded(os.fsdecode(text))))
    places: dict[str, str] = {}
    for planned in found:
        first = places.setdefault(os.path.normcase(planned.path), planned.source)
        if first != planned.source:
            raise WriteError(
                f"{first} and {planned.source} would both be written to {planned.path}; "
                "rename one, or convert them into different folders"
            )
    return found


def _expanded(text: str) -> Iterator[Planned]:
    path = Path(text)
    if not os.path.lexists(path) and glob.has_magic(text):
        matches = sorted(glob.glob(text, recursive=True))
        if not matches:
            raise CheckpointNotFoundError(f"no file matches {text}")
        for match in matches:
            yield from _of(Path(match))
    elif os.path.lexists(path):
        yield from _of(path)
    elif address_of(text) is None:
        raise CheckpointNotFoundError(f"{text} does not exist; check the name, or use {SCHEME}user/repo for the Hub")
    else:
        yield Planned(text, PurePath(default_destination(text).name))


def _of(path: Path) -> Iterator[Planned]:
    """Yield the checkpoint in a file, or those in a folder."""
    if not path.is_dir() or _is_one(path):
        yield Planned(str(path), PurePath(default_destination(path).name))
        return
    found = [Planned(str(source), default_destination(source).relative_to(path)) for source in _in_folder(path)]
    if not found:
        raise CheckpointNotFoundError(f"{path} and its subfolders hold no checkpoint")
    yield from found


def _in_folder(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in _checkpoints(folder))
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.is_symlink() and not below.name.startswith("."):
            yield from (below,) if _is_one(below) else _in_folder(below)


def _is_one(folder: Path) -> bool:
    """Tell whether a folder is one checkpoint.

    Raises:
        AmbiguousCheckpointError: it is, and holds others as well.
    """
    names = _checkpoints(folder)
    standard = [name for name in STANDARD if name in names]
    others = [name for name in names if name not in STANDARD]
    if standard and others:
        raise AmbiguousCheckpointError(
            f"{folder} holds {standard[0]}, as a folder that is one checkpoint does, but others as well: {listed(others)}; "
            "name the files to convert",
            names,
        )
    return bool(standard) or is_in_two_files(folder, names)


def _checkpoints(folder: Path) -> tuple[str, ...]:
    try:
        return checkpoints(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {folder}: {error.strerror or error}") from error
