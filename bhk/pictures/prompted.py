"""Pictures with prompts for a model: generated ones, or the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bhk.pictures.dead_leaves import dead_leaves, white_noise
from bhk.pictures.folder import NoPicturesError, find_pictures
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.pictures.masks import bounding_box, innermost_point
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import Scene

Asked = tuple[Rgb, tuple[Prompt, ...]]  # a picture and its prompts

Kind = Literal["dead-leaves", "noise"]
KINDS: tuple[Kind, ...] = get_args(Kind)

OBJECTS = 6  # per picture, each with a box and a point as prompts


def scene_prompts(scene: Scene) -> tuple[Prompt, ...]:
    """Return two prompts for each of the largest objects: the box around it, and its innermost point."""
    prompts = []
    for mask in scene.masks[:OBJECTS]:
        prompts += [Prompt(box=bounding_box(mask)), Prompt(points=(innermost_point(mask),))]
    return tuple(prompts)


def synthetic(kind: Kind, count: int, seed: int, size: int) -> tuple[Asked, ...]:
    """Return generated pictures with prompts. The first pictures are the same for any count.

    Args:
        kind: "dead-leaves" or "noise".
        count: how many.
        seed: an integer from 0.
        size: side of the square pictures in pixels.
    """
    make = {"dead-leaves": dead_leaves, "noise": white_noise}[kind]
    scenes = (make(int(state), size) for state in np.random.SeedSequence(seed).generate_state(count))
    return tuple((scene.picture, scene_prompts(scene)) for scene in scenes)


def from_folder(folder: Path, count: int, seed: int, side: int) -> tuple[tuple[Asked, ...], tuple[str, ...]]:
    """Return pictures from a folder, with prompts all over them, and messages about files that cannot be read.

    Args:
        folder: where to look, subfolders included.
        count: how many to draw at random; a folder with fewer gives all it has.
        seed: seed of the draw and of the prompts.
        side: longest side in pixels; larger pictures are scaled down.

    Raises:
        NoPicturesError: the folder holds no picture that can be read.
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
