"""Finding the annotated pictures in a folder."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from bhk.base.texts import counted
from bhk.evaluation.annotations.errors import WrongSplitError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.places import Place, find_places


class PictureFolder:
    """A folder in which pictures are found by the names that annotations give them.

    Args:
        path: the folder, with its subfolders and the tar archives in them; or such an archive.

    Raises:
        NoPicturesError: it is neither a folder nor an archive, or it holds no pictures.

    Attributes:
        damaged: parts of archives that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        found = find_places(path)
        self.damaged = found.damaged
        self._places = {place.name: place for place in found.files}
        names = tuple(self._places)
        self._by_name = _by_endings((name, name) for name in names)
        self._by_stem = _by_endings((str(PurePosixPath(name).with_suffix("")), name) for name in names)

    def match(self, names: Sequence[str], log: FaultLog) -> Mapping[str, Place]:
        """Return the places of the annotated pictures by their names, and count missing and ambiguous ones in `log`.

        The folder may lack annotated pictures, or hold other pictures as well, but not both for the most part.

        Args:
            names: paths within the folder, perhaps with more or fewer leading folders, or without the suffix (SA-1B). A name
                that is not exactly the path of a picture must match one picture only, which no other name matches.
            log: counts the faults.

        Raises:
            WrongSplitError: most annotated pictures are missing, and most pictures in the folder are not annotated.
        """
        fitting = {name: self._fitting(name) for name in names}
        missing = [name for name in names if not fitting[name]]
        found = len(names) - len(missing)
        if 2 * found < min(len(names), len(self._places)):
            raise WrongSplitError(
                f"{found} of {len(names)} annotated pictures are in {self._path}, which holds "
                f"{counted(len(self._places), 'picture')}: it looks like another split "
                f"(annotated: {missing[0]!r}; in the folder: {min(self._places)!r})"
            )
        for name in missing:
            log.add(FaultKind.MISSING_PICTURE, name)
        claims = Counter(picture for pictures in fitting.values() for picture in pictures)
        matched = {}
        for name, pictures in fitting.items():
            if len(pictures) == 1 and (name in self._places or claims[pictures[0]] == 1):
                matched[name] = self._places[pictures[0]]
            elif pictures:
                log.add(FaultKind.AMBIGUOUS_PICTURE, f"{name}: {', '.join(pictures[:3])}")
        return matched

    def _fitting(self, name: str) -> Sequence[str]:
        """Return the pictures that a name may stand for: those that share the longest ending with it."""
        if name in self._places:
            return (name,)
        for ending in _endings(name):
            if found := self._by_name.get(ending) or self._by_stem.get(ending):
                return found
        return ()


def _by_endings(pictures: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return pictures, given as (name, picture), by every ending of their names."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, picture in pictures:
        for ending in _endings(name):
            found[ending].append(picture)
    return found


def _endings(name: str) -> Iterator[str]:
    """Yield a path, then the path without its first folder, without its first two, …"""
    parts = name.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))
