"""Procedural pictures with known objects: overlapping textured shapes on a textured background.

Sizes follow the power law of dead leaves (Lee, Mumford and Huang 2001), which gives pictures the statistics of natural ones.
Shapes have texture, shading and shadows; the whole picture has light, blur and noise. A scene depends on its seed alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

HELD_OUT = 1 << 40  # the demo model was not trained on scenes with seeds from here on
SMALLEST_AREA = 0.008  # fraction of the picture; objects with a smaller visible part do not count
_SMALLEST, _LARGEST = 0.08, 0.36  # radii of objects, as fractions of the side
_SHADOW = 3 / 128  # length of shadows, as a fraction of the side


@dataclass(frozen=True)
class Scene:
    """A picture and the objects in it.

    Attributes:
        picture: (height, width, 3) uint8, RGB.
        masks: (objects, height, width) bool; the visible part of each object, largest first. They do not overlap.
    """

    picture: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class _Materials:
    """Properties that all surfaces of a scene share.

    Attributes:
        textures: (3, size, size) noise, from fine to coarse.
        saturation: of colours, from 0 (grey) to 1.
    """

    textures: Floats
    saturation: float


def make_scene(seed: int, size: int = 128) -> Scene:
    """Return the scene of a seed.

    Args:
        seed: an integer from 0; the same seed and size give the same scene.
        size: side of the square picture in pixels.
    """
    rng = np.random.default_rng((seed, size))
    materials = _Materials(np.stack([_noise(rng, size, exponent) for exponent in (0.6, 1.0, 1.6)]), rng.uniform(0.3, 1))
    canvas = _paint(rng, materials, np.mgrid[0:size, 0:size].astype(np.float32) / size)
    front = np.zeros((size, size), np.int32)
    count = int(rng.integers(5, 15))
    for number in range(1, count + 1):
        _place(rng, materials, canvas, front, number)
    masks = np.stack([front == number for number in range(1, count + 1)])
    areas = masks.sum(axis=(1, 2))
    largest_first = [
        index for index in np.argsort(-areas, kind="stable") if areas[index] >= SMALLEST_AREA * size * size
    ]
    return Scene(_develop(rng, canvas), masks[largest_first])


def _noise(rng: np.random.Generator, size: int, exponent: float) -> Floats:
    """Return (size, size) noise of variance 1 that tiles; amplitudes fall with frequency as f^-exponent."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), np.float32))
    spectrum *= np.hypot(np.hypot(rows, columns), 1 / size) ** -exponent
    spectrum[0, 0] = 0
    field: Floats = np.fft.irfft2(spectrum, (size, size))
    return (field / field.std()).astype(np.float32)  # type: ignore[no-any-return]


def _paint(rng: np.random.Generator, materials: _Materials, at: Floats) -> Floats:
    """Return the colours (3, rows, columns), 0 … 1, of a random material at places (2, rows, columns) in a unit square."""
    rows, columns = at.shape[1:]
    greys, hues = rng.random((2, 1, 1, 1), np.float32), rng.random((2, 3, 1, 1), np.float32)
    colour, other = greys + np.float32(materials.saturation) * (hues - greys)
    angle, frequency = rng.random() * np.pi, np.exp(rng.uniform(np.log(4), np.log(24)))
    along = (np.cos(angle) * at[0] + np.sin(angle) * at[1]) * frequency
    kind = rng.integers(5)
    if kind == 0:  # stripes
        mix = 0.5 + 0.5 * np.clip(3 * np.sin(2 * np.pi * along), -1, 1)
    elif kind == 1:  # checks
        across = (np.cos(angle) * at[1] - np.sin(angle) * at[0]) * frequency
        mix = 0.5 + 0.5 * np.clip(4 * np.sin(np.pi * along) * np.sin(np.pi * across), -1, 1)
    elif kind == 2:  # a gradient
        mix = np.clip(along / frequency, 0, 1)
    else:  # clouds
        mix = np.clip(0.5 + 0.35 * _cut(rng, materials.textures[2], rows, columns), 0, 1)
    strength = rng.uniform(0.1, 0.7)
    grain = _cut(rng, materials.textures[rng.integers(2)], rows, columns)
    return colour + strength * mix * (other - colour) + rng.uniform(0, 0.12) * grain  # type: ignore[no-any-return]


def _cut(rng: np.random.Generator, texture: Floats, rows: int, columns: int) -> Floats:
    """Return a random part of a texture that tiles."""
    return np.roll(texture, rng.integers(0, len(texture), 2), (0, 1))[:rows, :columns]


def _place(
    rng: np.random.Generator, materials: _Materials, canvas: Floats, front: NDArray[np.int32], number: int
) -> None:
    """Put one object in front of the others."""
    size = len(front)
    power = rng.random()  # radii r with density r^-3
    radius = size * (power * _LARGEST**-2 + (1 - power) * _SMALLEST**-2) ** -0.5
    centre = rng.uniform(0, size, (2, 1, 1))
    reach = 1.6 * radius + _SHADOW * size + 1
    first, last = np.floor(centre - reach).astype(int).ravel(), np.ceil(centre + reach).astype(int).ravel()
    offset = (np.mgrid[first[0] : last[0], first[1] : last[1]] - centre).astype(np.float32)
    cover = _cover(rng, offset, radius)
    fall = np.rint(rng.uniform(-_SHADOW, _SHADOW, 2) * size).astype(int)
    shadow = rng.uniform(0, 0.5) * np.roll(cover, fall, (0, 1))

    rows, columns = (slice(max(low, 0), min(high, size)) for low, high in zip(first, last, strict=True))
    seen = (
        slice(rows.start - first[0], rows.stop - first[0]),
        slice(columns.start - first[1], columns.stop - first[1]),
    )
    cover, offset = cover[seen], offset[:, seen[0], seen[1]]
    light = rng.uniform(-0.25, 0.25, (2, 1, 1)).astype(np.float32) / radius
    paint = _paint(rng, materials, (offset + centre.astype(np.float32)) / size) * (1 + (light * offset).sum(axis=0))
    window = canvas[:, rows, columns]
    window *= 1 - shadow[seen]
    window += cover * (paint - window)
    front[rows, columns][cover >= 0.5] = number


def _cover(rng: np.random.Generator, offset: Floats, radius: float) -> Floats:
    """Return how much of each pixel a random shape covers, 0 … 1, given the pixels' offsets from its centre."""
    angle = rng.random() * 2 * np.pi
    down = np.cos(angle) * offset[0] + np.sin(angle) * offset[1]
    aside = np.cos(angle) * offset[1] - np.sin(angle) * offset[0]
    stretch = np.exp(rng.uniform(-0.45, 0.45))
    down, aside = down / (radius * stretch), aside / (radius / stretch)
    kind = rng.integers(4)
    if kind == 0:  # an ellipse
        inside = 1 - np.hypot(down, aside)
    elif kind == 1:  # a rectangle
        inside = 0.85 - np.maximum(np.abs(down), np.abs(aside))
    else:
        theta, distance = np.arctan2(aside, down), np.hypot(down, aside)
        if kind == 2:  # a polygon
            sector = 2 * np.pi / rng.integers(3, 8)
            edge = np.cos(sector / 2) / np.cos(theta % sector - sector / 2)
        else:  # a blob
            edge = np.full_like(theta, 0.9)
            for wave in range(2, 6):
                edge += rng.normal(0, 0.28 / wave) * np.cos(wave * theta + rng.random() * 2 * np.pi)
        inside = edge - distance
    if rng.random() < 0.1:  # a hole
        inside = np.minimum(inside, np.hypot(down, aside) - rng.uniform(0.3, 0.5))
    return np.clip(0.5 + inside * radius, 0, 1).astype(np.float32)  # type: ignore[no-any-return]


def _develop(rng: np.random.Generator, canvas: Floats) -> NDArray[np.uint8]:
    """Return the canvas as a picture, with uneven light, blur and noise."""
    size = canvas.shape[1]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    tilt = rng.uniform(-0.5, 0.5, 2)
    exposed = canvas * (rng.uniform(0.75, 1.2) * (1 + tilt[0] * rows + tilt[1] * columns))
    width = rng.uniform(0, 0.8) * size / 128
    blurred = _blur(_blur(exposed, width, 1), width, 2)
    noisy = blurred + rng.uniform(0, 0.04) * rng.standard_normal(canvas.shape, np.float32)
    return np.rint(255 * np.clip(noisy, 0, 1)).astype(np.uint8).transpose(1, 2, 0)  # type: ignore[no-any-return]


def _blur(canvas: Floats, width: float, axis: int) -> Floats:
    """Return the canvas blurred along an axis by a Gaussian with a standard deviation of `width` pixels."""
    reach = int(np.ceil(3 * width))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(width, 1e-3)) ** 2)
    weights /= weights.sum()
    padded = np.pad(canvas, [(reach, reach) if dim == axis else (0, 0) for dim in range(3)], mode="edge")
    length = canvas.shape[axis]
    return sum(
        (np.float32(weight) * np.take(padded, range(step, step + length), axis) for step, weight in enumerate(weights)),
        start=np.zeros_like(canvas),
    )
