"""The pictures in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from bhk.base.errors import BhkError
from bhk.pictures.image import SUFFIXES

Item = TypeVar("Item")


class NoPicturesError(BhkError):
    """A folder of pictures cannot be read, or holds none that can be used."""


def find_pictures(folder: Path, *, limit: int | None = None, seed: int = 0) -> tuple[str, ...]:
    """Return the pictures in a folder and its subfolders, recognised by their suffixes.

    Hidden files and folders, whose names begin with a dot, are left out.

    Args:
        folder: where to look.
        limit: return at most this many, drawn at random; None for all.
        seed: seed of the draw.

    Returns:
        sorted paths, relative to the folder, with "/" between folders.

    Raises:
        NoPicturesError: the folder does not exist, cannot be read or holds no pictures; the name of a picture is not
            UTF-8; or `limit` is not positive.
    """

    if folder.is_file():
        raise NoPicturesError(f"{folder} is a file; expected a folder of pictures")
    names = find_files(folder, SUFFIXES)
    if not names:
        raise NoPicturesError(f"{folder} holds no pictures; expected files with the suffixes {', '.join(SUFFIXES)}")
    return draw(names, limit, seed)


def find_files(folder: Path, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return the files in a folder and its subfolders that have one of the suffixes; see `find_pictures`.

    Raises:
        NoPicturesError: the folder cannot be read, or the name of a file is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise NoPicturesError(f"cannot read the folder {error.filename}: {error.strerror or error}") from error

    if folder.is_file():
        raise NoPicturesError(f"{folder} is a file; expected a folder of pictures, or a .tar archive")
    names = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in files
            if Path(name).suffix.lower() in suffixes and not name.startswith(".")
        ]
    for name in names:
        if not name.isascii() and name.encode(errors="ignore").decode() != name:
            raise NoPicturesError(f"{folder} holds {name!a}, whose name is not UTF-8; rename it")
    return tuple(sorted(names))


def replaced_pictures(images: str | os.PathLike[str] | None, out: str | os.PathLike[str] | None) -> tuple[Path, ...]:
    """Return the pictures that writing `out` would replace while `images`, a folder or a picture, is read."""
    if images is None or out is None or Path(out).suffix.lower() not in SUFFIXES:
        return ()
    place, target = Path(images).resolve(), Path(out).resolve()
    return (target,) if place in (target, *target.parents) else ()


def draw(items: Sequence[Item], limit: int | None, seed: int) -> tuple[Item, ...]:
    """Return at most `limit` items, drawn at random with the seed `seed`, in their order. None returns all.

    Raises:
        NoPicturesError: `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise NoPicturesError(f"cannot use {limit} pictures; the limit must be 1 or more")
    if limit is None or limit >= len(items):
        return tuple(items)
    drawn = np.random.default_rng(seed).choice(len(items), limit, replace=False)
    return tuple(items[index] for index in sorted(drawn))
