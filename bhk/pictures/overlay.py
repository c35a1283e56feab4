"""Drawing masks and prompts on a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Point, Prompt

# Source: Okabe and Ito, Color Universal Design (2008), without black. All kinds of colour vision tell them apart.
COLOURS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
OPACITY = 0.45
_SMOOTH = 4  # prompts are drawn this many times larger, then scaled down, for smooth edges


def draw(image: Rgb, masks: NDArray[np.bool_], prompts: Iterable[Prompt] | Mapping[int, Prompt]) -> Image.Image:
    """Return a picture with masks and prompts drawn on it, at the size of the picture.

    Masks are tinted, the largest first, so that small ones lie on top. Each mask has a white outline with a black one
    around it, and so have points; one of the two is visible on any background. Points on the object are discs, and
    points outside it are discs with a bar.

    Args:
        image: uint8 (height, width, 3).
        masks: bool (n, height, width).
        prompts: in pixels of the picture; by the number of the mask that has the colour of their boxes, in turn by default.
    """
    drawn = image.copy()
    unit = max(1, round(min(image.shape[:2]) / 320))
    order = np.argsort([-int(mask.sum()) for mask in masks], kind="stable")
    for index in order.tolist():
        _tint(drawn, masks[index], COLOURS[index % len(COLOURS)], unit)
    picture = Image.fromarray(drawn)
    asked = prompts if isinstance(prompts, Mapping) else dict(enumerate(dict.fromkeys(prompts)))
    for number, prompt in asked.items():
        if prompt.box is not None:
            _box(picture, prompt.box, COLOURS[number % len(COLOURS)], unit)
    for prompt in asked.values():
        for point in prompt.points:
            _disc(picture, point, COLOURS[2], 7 * unit, bar=False)
        for point in prompt.not_points:
            _disc(picture, point, COLOURS[5], 7 * unit, bar=True)
    return picture


def _tint(drawn: Rgb, mask: NDArray[np.bool_], colour: tuple[int, int, int], unit: int) -> None:
    """Tint a mask and draw its outline, in place."""
    if not mask.any():
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = 2 * unit
    window = (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )
    inside, part = mask[window], drawn[window]
    for channel, target in enumerate(colour):
        tinted = np.rint((1 - OPACITY) * np.arange(256) + OPACITY * target).astype(np.uint8)
        values = part[..., channel]
        values[inside] = tinted[values[inside]]
    white, black = _rings(inside, unit)
    part[black] = 0
    part[white] = 255


def _rings(mask: NDArray[np.bool_], unit: int) -> Iterator[NDArray[np.bool_]]:
    """Yield the ring of `unit` pixels around a mask, and the next one around that.

    The mask grows by one pixel per step, in every other step across corners too, so that a dot becomes an octagon.
    Pillow's filters would need as many comparisons per pixel as the square of the line's width.
    """
    grown = mask.copy()
    for ring in range(2):
        inner = grown.copy()
        for step in range(ring * unit, (ring + 1) * unit):
            before = grown.copy()
            grown[1:] |= before[:-1]
            grown[:-1] |= before[1:]
            if step % 2:
                before = grown.copy()
            grown[:, 1:] |= before[:, :-1]
            grown[:, :-1] |= before[:, 1:]
        yield grown & ~inner


def _box(picture: Image.Image, box: tuple[float, ...], colour: tuple[int, int, int], unit: int) -> None:
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = (round(value) for value in box)
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    for grow, ink in ((2, "black"), (1, colour), (0, colour), (-1, "black")):
        edge = grow * unit
        corners = (left - edge, top - edge, max(right + edge, left - edge), max(bottom + edge, top - edge))
        pen.rectangle(corners, outline=ink, width=unit)


def _disc(picture: Image.Image, at: Point, colour: tuple[int, int, int], radius: int, *, bar: bool) -> None:
    """Draw a disc with a white and a black ring around it, and with a white bar if `bar`."""
    side = 2 * radius + 1
    stamp = Image.new("RGBA", (side * _SMOOTH, side * _SMOOTH))
    pen = ImageDraw.Draw(stamp)
    for reduced, ink in ((0.0, "black"), (0.18, "white"), (0.42, colour)):
        edge = reduced * radius * _SMOOTH
        pen.ellipse((edge, edge, stamp.width - 1 - edge, stamp.height - 1 - edge), fill=ink)
    if bar:
        middle, half = stamp.height / 2, 0.12 * stamp.height
        pen.rectangle((0.28 * stamp.width, middle - half, 0.72 * stamp.width, middle + half), fill="white")
    stamp = stamp.resize((side, side), Image.Resampling.BOX)
    picture.paste(stamp, (int(at[0]) - radius, int(at[1]) - radius), stamp)
