"""Clips: a folder of frames or a video file, read frame by frame, so that a long one takes no more memory than a short one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from bhk.base.errors import BhkError
from bhk.base.progress import Progress, silent
from bhk.pictures.image import SUFFIXES, ImageError, Rgb, read_image

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".wmv", ".3gp", ".ogv")
USUAL_RATE = Fraction(25)  # frames a second where nothing tells


class ClipError(BhkError):
    """A clip cannot be read, has no frames, or does not have the frame that is asked for."""


class Clip(Protocol):
    """The frames of a clip, all of one size."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright frames in pixels."""

    @property
    def rate(self) -> Fraction:
        """Frames a second."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """The file name of each frame; None if all are in one file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Rgb:
        """Return a frame, uint8 (height, width, 3).

        Raises:
            ClipError: it cannot be read, or has another size.
        """


def is_clip(source: object) -> bool:
    """Tell whether this names a clip and not a picture: a folder, or a file with the suffix of a video."""
    if not isinstance(source, str | os.PathLike):
        return False
    return Path(source).suffix.lower() in VIDEO_SUFFIXES or Path(source).is_dir()


@contextlib.contextmanager
def open_clip(path: Path, progress: Progress = silent) -> Iterator[Clip]:
    """Yield the clip in a folder of frames, sorted by the numbers in their names, or in a video file.

    Args:
        path: the folder or the file.
        progress: called with ("Reading frames", frames done, all frames) while a video file is decoded once, which alone tells
            how many frames it has.

    Raises:
        ClipError: there are no frames, or the file cannot be read.
        MissingPackageError: PyAV or Pillow is not installed.
    """
    if not path.exists():
        raise ClipError(f"cannot read {path}: no such file or folder")
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.is_file():  # opening a pipe would wait for its writer
        raise ClipError(f"cannot read {path}: not a regular file")
    from bhk.pictures.video_file import VideoFile

    with contextlib.closing(VideoFile(path, progress)) as clip:
        yield clip


@dataclass(frozen=True)
class Beginning:
    """The first `count` frames of a clip."""

    clip: Clip
    count: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright frames in pixels."""
        return self.clip.size

    @property
    def rate(self) -> Fraction:
        """Frames a second."""
        return self.clip.rate

    @property
    def names(self) -> tuple[str, ...] | None:
        """The file name of each frame; None if all are in one file."""
        return self.clip.names and self.clip.names[: self.count]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Rgb:
        return self.clip[index]


def check_frame(clip: Clip, frame: int) -> None:
    """Check that a clip has a frame.

    Raises:
        ClipError: it does not.
    """
    if not 0 <= frame < len(clip):
        raise ClipError(f"frame {frame} is outside the clip, whose frames are 0 to {len(clip) - 1}")


def check_size(picture: Rgb, size: tuple[int, int], name: str) -> Rgb:
    """Return the frame called `name` if it has the size of the clip.

    Raises:
        ClipError: it has another one.
    """
    if picture.shape[:2] != size:
        (height, width), expected = picture.shape[:2], f"{size[1]} x {size[0]}"
        raise ClipError(
            f"{name} is {width} x {height} pixels, but the first is {expected}; expected frames of one size"
        )
    return picture


class _Folder:
    """Frames that are pictures in one folder."""

    rate = USUAL_RATE

    def __init__(self, folder: Path) -> None:
        try:
            files = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise ClipError(f"cannot read the folder {folder}: {error.strerror or error}") from error
        self._folder = folder
        self.names = tuple(sorted((name for name in files if not name.startswith(".")), key=_by_number))
        if not self.names:
            raise ClipError(f"{folder} holds no frames; expected pictures with the suffixes {', '.join(SUFFIXES)}")
        height, width, _ = self._read(0).shape
        self.size = height, width

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Rgb:
        return check_size(self._read(index), self.size, f"frame {index} ({self.names[index]})")

    def _read(self, index: int) -> Rgb:
        try:
            return read_image(self._folder / self.names[index])
        except ImageError as error:
            raise ClipError(f"frame {index} is unreadable: {error.marked}") from error


def _by_number(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names by the numbers in them, so that frame 9 comes before frame 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
