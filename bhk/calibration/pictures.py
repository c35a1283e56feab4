"""Pictures with prompts to show to a model: made by rule, or the user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bhk.evaluation.images import NoPicturesError, find_pictures
from bhk.evaluation.metrics import bounding_box, innermost_point
from bhk.evaluation.prompts import grid_prompts
from bhk.sam.prediction.image import ImageError, Rgb, read_image
from bhk.sam.prediction.prompts import Prompt
from bhk.sam.scenes import SMALLEST_AREA, Scene

Asked = tuple[Rgb, tuple[Prompt, ...]]  # a picture and what is asked about it

Kind = Literal["dead-leaves", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OBJECTS = 6  # of a picture, each asked for by a box and by a point
_DISCS = 60
_SMALLEST, _LARGEST = 0.03, 0.35  # radius of a disc, as a share of the side
_NOISE = 8  # grey levels by which a pixel may be off either way


def dead_leaves(seed: int, size: int) -> Scene:
    """Return discs of one colour each that fall on one another, with a little noise: a picture of dead leaves.

    Radii r have density r^-3 between two bounds, which gives the picture the statistics of natural ones (Lee, Mumford and
    Huang, "Occlusion models for natural images", 2001). Equal on every machine: only whole numbers, and square roots.

    Args:
        seed: any integer from 0.
        size: side of the square picture in pixels.
    """
    rng = np.random.default_rng((seed, size))
    canvas = np.empty((size, size, 3), np.int16)
    canvas[:] = rng.integers(0, 256, 3)
    front = np.zeros((size, size), np.uint8)
    for number in range(1, _DISCS + 1):
        power = rng.random()
        radius = size / math.sqrt(power / _LARGEST**2 + (1 - power) / _SMALLEST**2)
        rows, columns, inside = _disc(rng.random(2) * size, radius, size)
        canvas[rows, columns][inside] = rng.integers(0, 256, 3)
        front[rows, columns][inside] = number
    canvas += rng.integers(-_NOISE, _NOISE + 1, canvas.shape, np.int16)
    return Scene(canvas.clip(0, 255).astype(np.uint8), _visible(front))


def _disc(centre: NDArray[np.float64], radius: float, size: int) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Return the rows and columns around a disc, and which of their pixels are in it."""
    rows, columns = (slice(max(0, math.floor(at - radius)), min(size, math.ceil(at + radius) + 1)) for at in centre)
    down = np.arange(rows.start, rows.stop)[:, None] - centre[0]
    aside = np.arange(columns.start, columns.stop) - centre[1]
    return rows, columns, down**2 + aside**2 < radius**2


def _visible(front: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return masks (objects, height, width) of the numbers but 0 that fill enough of the picture, the largest first."""
    areas = np.bincount(front.ravel(), minlength=_DISCS + 1)
    areas[0] = 0
    largest_first = np.argsort(-areas, kind="stable")
    numbers = largest_first[areas[largest_first] >= SMALLEST_AREA * front.size]
    return front == numbers[:, None, None]  # type: ignore[no-any-return]


def white_noise(seed: int, size: int) -> Scene:
    """Return a picture whose values are all drawn alike, with the masks of the dead leaves of that seed."""
    picture = np.random.default_rng((seed, size, 1)).integers(0, 256, (size, size, 3), np.uint8)
    return Scene(picture, dead_leaves(seed, size).masks)


def scene_prompts(scene: Scene) -> tuple[Prompt, ...]:
    """Return a box and a point for each of the largest objects: the box around it, and its innermost point."""
    prompts = []
    for mask in scene.masks[:OBJECTS]:
        prompts += [Prompt(box=bounding_box(mask)), Prompt(points=(innermost_point(mask),))]
    return tuple(prompts)


def synthetic(kind: Kind, count: int, seed: int, size: int) -> tuple[Asked, ...]:
    """Return pictures made by rule, with prompts; the first of them are the same for any count.

    Args:
        seed: any integer from 0.
        size: side of the square pictures in pixels.
    """
    make = {"dead-leaves": dead_leaves, "noise": white_noise}[kind]
    scenes = (make(int(state), size) for state in np.random.SeedSequence(seed).generate_state(count))
    return tuple((scene.picture, scene_prompts(scene)) for scene in scenes)


def from_folder(folder: Path, count: int, seed: int, side: int) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    """Return pictures of a folder with prompts all over them, and of the files that are no pictures what is wrong.

    Args:
        count: how many are drawn at random by `seed`; of a folder with fewer, all are taken.
        side: longest side in pixels; larger pictures are scaled down.

    Raises:
        NoPicturesError: there are none that can be read.
        MissingPackageError: Pillow is not installed.
    """
    names = find_pictures(folder)
    asked: list[Asked] = []
    unreadable: list[str] = []
    for number in np.random.default_rng(seed).permutation(len(names)):
        if len(asked) == count:
            break
        try:
            picture = _shrunk(read_image(folder / names[number]), side)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        height, width, _ = picture.shape
        asked.append((picture, grid_prompts(width, height, (seed, int(number)), OBJECTS, OBJECTS)))
    if not asked:
        raise NoPicturesError(f"{folder} holds no picture that can be read: {unreadable[0]}")
    return tuple(asked), tuple(unreadable)


def _shrunk(picture: Rgb, side: int) -> Rgb:
    """Return a picture whose longest side is at most `side` pixels."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return np.array(image)
