"""What the demo SAM learns from: procedural scenes with prompts and the answers to them."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from bhk.pictures.masks import bounding_box
from bhk.pictures.scenes import Scene, make_scene

SIZE, PATCH = 128, 8  # pixels of a scene's side, and of a patch's
GRID = SIZE // PATCH
LOW = 4 * GRID  # side of the masks that the decoder gives
PROMPTS = 8  # for each scene


@dataclass(frozen=True)
class Lesson:
    """Scenes with prompts and answers.

    Attributes:
        pictures: (batch, 3, SIZE, SIZE) uint8.
        kept: (batch, 2) int64, height and width of the visible part; the rest is padding.
        points: (batch, PROMPTS, 2, 2) float32, x and y in pixels.
        labels: (batch, PROMPTS, 2) int64: 1 is a point on the object, 0 one outside it, 2 and 3 box corners, -1 nothing.
        masks: (batch, PROMPTS, LOW, LOW) float32, the share of each cell that the object covers.
        boxes: (batch, 4, GRID, GRID) float32, from each patch to the left, upper, right and lower end of the object there, in
            sides of the picture; NaN where there is no object.
        edges: (batch, LOW, LOW) float32, 1 where two objects, or an object and the ground, meet.
    """

    pictures: Tensor
    kept: Tensor
    points: Tensor
    labels: Tensor
    masks: Tensor
    boxes: Tensor
    edges: Tensor

    def to(self, device: str) -> Lesson:
        """Return the lesson on a device."""
        return Lesson(*(getattr(self, field.name).to(device) for field in fields(self)))


def prepare(seeds: list[int]) -> Lesson:
    """Return the lesson of these scenes. It depends on nothing but the seeds."""
    parts = [_prepare(seed) for seed in seeds]
    return Lesson(*(torch.from_numpy(np.stack(column)) for column in zip(*parts, strict=True)))


def _prepare(seed: int) -> tuple[np.ndarray, ...]:
    """Return the fields of a lesson for one scene."""
    rng = np.random.default_rng((seed, 1))
    scene, kept = _cut(rng, make_scene(seed, SIZE))
    boxes = np.array([bounding_box(mask) for mask in scene.masks])
    chosen = rng.permutation(np.resize(rng.permutation(len(scene.masks)), PROMPTS))
    asked = [_prompt(rng, scene.masks[index], boxes[index]) for index in chosen]
    numbers = _numbered(scene.masks)
    low = scene.masks[chosen].reshape(PROMPTS, LOW, SIZE // LOW, LOW, SIZE // LOW).mean((2, 4), dtype=np.float32)
    return (
        scene.picture.transpose(2, 0, 1).copy(),
        kept,
        np.stack([points for points, _ in asked]),
        np.stack([labels for _, labels in asked]),
        low,
        _extents(numbers, boxes),
        _edges(numbers),
    )


def _cut(rng: np.random.Generator, scene: Scene) -> tuple[Scene, np.ndarray]:
    """Cut off the right or lower part of some scenes, like pictures that are not square; return the size that is left."""
    whole = np.array([SIZE, SIZE])
    kept = rng.permutation([rng.integers(SIZE // 2, SIZE), SIZE]) if rng.random() < 0.2 else whole
    masks = scene.masks.copy()
    masks[:, kept[0] :] = False
    masks[:, :, kept[1] :] = False
    large = masks.sum((1, 2)) >= 64
    return (Scene(scene.picture, masks[large]), kept) if large.any() else (scene, whole)


def _numbered(masks: np.ndarray) -> np.ndarray:
    """Return the number of the object at each pixel, from 1 on; 0 is the ground."""
    return np.einsum("nhw,n->hw", masks, np.arange(1, len(masks) + 1))


def _prompt(rng: np.random.Generator, mask: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two points and their labels: a box that is a little off, one point, or two, the second perhaps outside."""
    kind = rng.random()
    if kind < 0.45:
        sides = np.tile(box[2:] - box[:2], 2)
        off = np.clip(rng.normal(0, 0.04 * sides, 4), -4, 4) * (rng.random() < 0.7)
        return np.clip(box + off, 0, SIZE).reshape(2, 2).astype(np.float32), np.array([2, 3])
    inside = np.argwhere(mask)[:, ::-1] + 0.5
    first = inside[rng.integers(len(inside))]
    if kind < 0.85:
        return np.array([first, (0, 0)], np.float32), np.array([1, -1])
    wanted = int(rng.random() < 0.5)
    others = inside if wanted else np.argwhere(~mask)[:, ::-1] + 0.5
    if not wanted:  # a point outside teaches most close to the object
        near = np.abs(others - (box[:2] + box[2:]) / 2) < (box[2:] - box[:2]) * 0.7
        others = others[near.all(1)] if near.all(1).any() else others
    return np.array([first, others[rng.integers(len(others))]], np.float32), np.array([1, wanted])


def _extents(numbers: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return `Lesson.boxes` of one scene."""
    at = numbers[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    rows, columns = np.mgrid[0:GRID, 0:GRID] * PATCH + PATCH / 2
    left, top, right, bottom = np.concatenate([np.full((1, 4), np.nan), boxes])[at].transpose(2, 0, 1)
    return (np.stack([columns - left, rows - top, right - columns, bottom - rows]) / SIZE).astype(np.float32)


def _edges(numbers: np.ndarray) -> np.ndarray:
    """Return `Lesson.edges` of one scene."""
    edges = np.zeros((SIZE, SIZE), bool)
    edges[1:] |= numbers[1:] != numbers[:-1]
    edges[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    return edges.reshape(LOW, SIZE // LOW, LOW, SIZE // LOW).any((1, 3)).astype(np.float32)


def lessons(first: int, batch: int, scene: int) -> Iterator[Lesson]:
    """Yield lessons from number `first` on, made in another process.

    Args:
        batch: scenes of a lesson.
        scene: seed of the first scene of lesson 0.
    """
    seeds = ([scene + index * batch + item for item in range(batch)] for index in itertools.count(first))
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        waiting = deque(pool.apply_async(prepare, (next(seeds),)) for _ in range(8))
        while True:
            waiting.append(pool.apply_async(prepare, (next(seeds),)))
            yield waiting.popleft().get()
