"""The pictures that annotations speak of, in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bhk.evaluation.annotations.errors import WrongSplitError
from bhk.evaluation.faults import FaultKind, FaultLog
from bhk.evaluation.images import find_pictures


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
        paths = [PurePosixPath(name) for name in reversed(names)]
        self._names = {path.stem: path for path in paths} | {path.name: path for path in paths}
        self._names |= {str(path): path for path in paths}
        self._count = len(names)

    def find(self, name: str) -> Path | None:
        """Return where a picture is, or None where it is not.

        Args:
            name: from the folder, or without its folders, or (SA-1B) even without its suffix.
        """
        found = self._names.get(name) or self._names.get(PurePosixPath(name).name)
        return None if found is None else self._path / found

    def check(self, names: Sequence[str], log: FaultLog) -> None:
        """Count the annotated pictures that are missing.

        Part of the annotated pictures is fine, and so are others beside them; but not both.

        Raises:
            WrongSplitError: few of the annotated pictures are there, and few of those that are there are annotated.
        """
        missing = [name for name in names if self.find(name) is None]
        found = len(names) - len(missing)
        if 2 * found < min(len(names), self._count):
            raise WrongSplitError(
                f"{found} of {len(names)} annotated pictures are in {self._path}, which holds {self._count} pictures: "
                f"it looks like another split; annotated is {missing[0]!r}, there is {str(min(self._names.values()))!r}"
            )
        for name in missing:
            log.add(FaultKind.MISSING_PICTURE, name)
