"""Writing a clip with masks drawn on it: a video file, or a folder of pictures."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bhk.base.errors import option
from bhk.base.files import DestinationExistsError, WriteError, check_destination, made_folder, replace_file
from bhk.base.packages import import_package
from bhk.base.progress import Progress
from bhk.pictures.clip import VIDEO_SUFFIXES, Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.image import SUFFIXES, Rgb
from bhk.pictures.video_file import CONTAINERS, PYAV, write_video

_FRAME = re.compile(r"\d{5,}\.jpg")  # as `write_overlay` calls them
Masks = Callable[[int], NDArray[np.bool_]]  # index of a frame -> bool (objects, height, width)


def check_overlay(path: Path, *, force: bool, source: Path, frames: int) -> None:
    """Check that a clip can be written to `path`, before any work is done.

    Args:
        path: a file with a suffix of `CONTAINERS`, or a folder, which may exist if it is empty.
        force: whether an existing file, or files in the folder, may be overwritten.
        source: the clip that is read meanwhile.
        frames: how many frames it has.

    Raises:
        WriteError: it cannot, or exists and `force` is false.
        MissingPackageError: PyAV, which writes video files, is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        check_destination(path, force=force, sources=(source,))
        import_package([PYAV])
    elif suffix in VIDEO_SUFFIXES + SUFFIXES and not path.is_dir():
        raise WriteError(f"cannot write a clip as {suffix}; use {', '.join(CONTAINERS)}, or the name of a folder")
    elif not path.exists():
        if not path.parent.is_dir():
            raise WriteError(f"folder {path.parent} does not exist; create it first")
    elif not path.is_dir():
        raise WriteError(f"{path} is a file; give the name of a folder, or one that ends in {', '.join(CONTAINERS)}")
    elif _is_read_from(path, source):
        raise WriteError(f"{path} holds the clip that is being read; give another name")
    elif not force and any(path.iterdir()):
        raise DestinationExistsError(f"{path} is not empty; use {option('force', True)} to overwrite files in it")
    elif further := [found for found in path.iterdir() if _FRAME.fullmatch(found.name) and int(found.stem) >= frames]:
        raise WriteError(f"{path} has frames of a longer clip, such as {min(further).name}; remove them first")


def _is_read_from(folder: Path, source: Path) -> bool:
    """Return whether a clip is a folder, or a folder of links into it."""
    if not source.is_dir():
        return False
    read = {frame.resolve() for frame in source.iterdir()}
    return folder.samefile(source) or any(found.resolve() in read for found in folder.iterdir())


def write_overlay(
    path: Path, clip: Clip, masks: Masks, prompts: Sequence[ClipPrompt], *, force: bool, progress: Progress
) -> None:
    """Write a clip with masks drawn on it.

    Args:
        path: as for `check_overlay`; a folder gets pictures 00000.jpg, 00001.jpg, ….
        clip: the frames.
        masks: returns the masks in a frame.
        prompts: each is drawn on its frame.
        force: as for `check_overlay`.
        progress: called with ("Drawing", frames done, all frames).

    Raises:
        WriteError: it cannot be written.
        ClipError: a frame cannot be read.
    """

    def drawn() -> Iterator[Rgb]:
        from bhk.pictures.overlay import draw

        for index in range(len(clip)):
            asked = {prompt.object: prompt for prompt in prompts if prompt.frame == index}
            yield np.asarray(draw(clip[index], masks(index), asked))
            progress("Drawing", index + 1, len(clip))

    if path.suffix.lower() in CONTAINERS:
        with replace_file(path, force=force) as file:
            write_video(file, path.suffix.lower(), drawn(), clip.size, clip.rate)
        return
    with made_folder(path):
        for index, picture in enumerate(drawn()):
            _write_picture(path / f"{index:05}.jpg", picture, force)


def _write_picture(path: Path, picture: Rgb, force: bool) -> None:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="JPEG", quality=95)
    with replace_file(path, force=force) as file:
        file.write(encoded.getbuffer())
