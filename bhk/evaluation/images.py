"""The pictures of a folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from bhk.errors import BhkError
from bhk.sam.prediction.image import SUFFIXES


class NoPicturesError(BhkError):
    """What should be a folder with pictures is none, or none of its pictures can be used."""


def find_pictures(folder: Path, *, limit: int | None = None, seed: int = 0) -> tuple[str, ...]:
    """Return the pictures in a folder and all below it, known by their suffixes: paths from the folder, with /, sorted.

    Hidden files and folders (their names begin with a dot) are left out.

    Args:
        limit: at most as many, drawn at random by `seed`; None for all.

    Raises:
        NoPicturesError: there is no such folder, it cannot be read, or there are no pictures in it.
    """

    def refuse(error: OSError) -> None:
        raise NoPicturesError(f"cannot read the folder {error.filename}: {error.strerror or error}") from error

    names = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in files
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    if not names:
        raise NoPicturesError(f"{folder} holds no pictures; expected files that end in {', '.join(SUFFIXES)}")
    names.sort()
    if limit is None or limit >= len(names):
        return tuple(names)
    drawn = np.random.default_rng(seed).choice(len(names), limit, replace=False)
    return tuple(names[index] for index in sorted(drawn))
