"""The pictures that annotations speak of, in a folder."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from bhk.evaluation.annotations.errors import WrongSplitError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.pictures.folder import find_pictures


class PictureFolder:
    """A folder of pictures, found by the names that annotations give them.

    Args:
        path: the folder; its subfolders count.

    Raises:
        NoPicturesError: it is no folder, or it holds no picture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        names = find_pictures(self._path)
        self._names = frozenset(names)
        self._by_name = _by_endings((name, name) for name in names)
        self._by_stem = _by_endings((str(PurePosixPath(name).with_suffix("")), name) for name in names)

    def match(self, names: Sequence[str], log: FaultLog) -> Mapping[str, Path]:
        """Return where the annotated pictures are, by their names, and count those that are missing or ambiguous.

        Part of the annotated pictures is fine, and so are others beside them; but not both.

        Args:
            names: from the folder, or with more or fewer folders before them, or (SA-1B) even without the suffix. One
                that is none from the folder has to fit a single picture, which no other name fits.

        Raises:
            WrongSplitError: few of the annotated pictures are there, and few of those that are there are annotated.
        """
        fitting = {name: self._fitting(name) for name in names}
        missing = [name for name in names if not fitting[name]]
        found = len(names) - len(missing)
        if 2 * found < min(len(names), len(self._names)):
            raise WrongSplitError(
                f"{found} of {len(names)} annotated pictures are in {self._path}, which holds {len(self._names)} "
                f"pictures: it looks like another split; annotated is {missing[0]!r}, there is {min(self._names)!r}"
            )
        for name in missing:
            log.add(FaultKind.MISSING_PICTURE, name)
        claims = Counter(picture for pictures in fitting.values() for picture in pictures)
        matched = {}
        for name, pictures in fitting.items():
            if len(pictures) == 1 and (name in self._names or claims[pictures[0]] == 1):
                matched[name] = self._path / pictures[0]
            elif pictures:
                log.add(FaultKind.AMBIGUOUS_PICTURE, f"{name}: {', '.join(pictures[:3])}")
        return matched

    def _fitting(self, name: str) -> Sequence[str]:
        """Return the pictures that a name may mean: those that share most of its folders."""
        if name in self._names:
            return (name,)
        for ending in _endings(name):
            if found := self._by_name.get(ending) or self._by_stem.get(ending):
                return found
        return ()


def _by_endings(pictures: Iterable[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return pictures, given as (name, picture), by all endings of their names."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, picture in pictures:
        for ending in _endings(name):
            found[ending].append(picture)
    return found


def _endings(name: str) -> Iterator[str]:
    """Yield a name, and what is left of it without its first folder, without its second, …"""
    parts = name.split("/")
    yield from ("/".join(parts[start:]) for start in range(len(parts)))
