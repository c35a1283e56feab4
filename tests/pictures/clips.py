"""A small clip for tests: a bright square that moves over a dark ground."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhk.pictures.video_file import write_video

WIDTH, HEIGHT = 140, 91


def frame(index: int) -> NDArray[np.uint8]:
    """Return a frame, uint8 (HEIGHT, WIDTH, 3). The brightness of its ground tells its index."""
    picture = np.full((HEIGHT, WIDTH, 3), 30 + 3 * index, np.uint8)
    picture[30:60, 20 + index : 60 + index] = (20, 220, 220)
    return picture


def write_folder(folder: Path, count: int) -> Path:
    """Write frames as pictures, named 0.png, 1.png, …."""
    folder.mkdir()
    for index in range(count):
        Image.fromarray(frame(index)).save(folder / f"{index}.png")
    return folder


def write_file(path: Path, count: int) -> Path:
    """Write frames as a video file."""
    with path.open("w+b") as file:
        write_video(file, path.suffix, map(frame, range(count)), (HEIGHT, WIDTH), Fraction(30000, 1001))
    return path
