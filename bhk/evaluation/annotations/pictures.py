"""The pictures that annotations speak of, in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bhk.evaluation.annotations.errors import AnnotationError, WrongSplitError
from bhk.evaluation.faults import FaultKind, FaultLog

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})


@dataclass(frozen=True)
class PictureFolder:
    """A folder of pictures.

    Attributes:
        path: of the folder.
        names: of the pictures in it and in its subfolders, relative to it, with forward slashes.
    """

    path: Path
    names: frozenset[str]

    @staticmethod
    def open(path: str | os.PathLike[str]) -> PictureFolder:
        """List the pictures in a folder.

        Raises:
            AnnotationError: it is no folder, or it holds no picture.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise AnnotationError(f"{folder} is not a folder; expected the one with the annotated pictures")
        names = frozenset(
            Path(root, name).relative_to(folder).as_posix()
            for root, _, files in os.walk(folder)
            for name in files
            if os.path.splitext(name)[1].lower() in _SUFFIXES
        )
        if not names:
            raise AnnotationError(f"{folder} holds no picture; expected those that are annotated")
        return PictureFolder(folder, names)

    def find(self, name: str) -> Path:
        """Return where the picture of this name is: as the annotations have it, or without its folders.

        Where there is none, what is returned does not exist.
        """
        base = PurePosixPath(name).name
        return self.path / (name if name in self.names else base)

    def has(self, name: str) -> bool:
        """Tell whether `find` finds a picture."""
        return name in self.names or PurePosixPath(name).name in self.names

    def check(self, names: Sequence[str], log: FaultLog) -> None:
        """Count the annotated pictures that are missing.

        Part of the annotated pictures is fine, and so are others beside them; but not both.

        Raises:
            WrongSplitError: few of the annotated pictures are there, and few of those that are there are annotated.
        """
        missing = [name for name in names if not self.has(name)]
        found = len(names) - len(missing)
        if 2 * found < min(len(names), len(self.names)):
            raise WrongSplitError(
                f"{found} of {len(names)} annotated pictures are in {self.path}, which holds {len(self.names)}: it looks "
                f"like another split; annotated is {missing[0]!r}, there is {min(self.names)!r}"
            )
        for name in missing:
            log.add(FaultKind.MISSING_PICTURE, name)
