"""Plain SVG text for the drawings of the documents, in a light and a dark theme."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape

FONT = "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"

Point = tuple[float, float]


@dataclass(frozen=True)
class Theme:
    """Colours that stand out on a light or a dark page; the page itself shows through.

    Attributes:
        text, muted, faint: of words, of less important words and axes, of grids.
        bhk, calibrated, reference, others: of data.
    """

    name: str
    text: str
    muted: str
    faint: str
    bhk: str
    calibrated: str
    reference: str
    others: tuple[str, ...]


# The data colours are Okabe and Ito's (Color Universal Design, 2008), or lighter ones of the same hue.
LIGHT = Theme(
    "light",
    "#1f2328",
    "#59636e",
    "#d1d9e0",
    "#c2410c",
    "#7b1e3a",
    "#1f2328",
    ("#0072b2", "#00845f", "#6e7781", "#8a5a00"),
)
DARK = Theme(
    "dark",
    "#f0f6fc",
    "#9198a1",
    "#3d444d",
    "#ff8a4c",
    "#ff7ba5",
    "#f0f6fc",
    ("#56b4e9", "#3ddbab", "#9198a1", "#e3b341"),
)
THEMES = (LIGHT, DARK)


class Drawing:
    """Shapes in the order in which they are drawn; coordinates in pixels from the upper left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self.parts = [f"<title>{escape(title)}</title>"]

    def line(self, start: Point, end: Point, colour: str, width: float = 1, **attributes: object) -> None:
        self._add(
            "line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], stroke=colour, stroke_width=width, **attributes
        )

    def path(self, points: Iterable[Point], colour: str, width: float = 1, **attributes: object) -> None:
        text = "M" + " L".join(f"{_number(x)} {_number(y)}" for x, y in points)
        self._add("path", d=text, fill="none", stroke=colour, stroke_width=width, **attributes)

    def circle(self, centre: Point, radius: float, **attributes: object) -> None:
        self._add("circle", cx=centre[0], cy=centre[1], r=radius, **attributes)

    def box(self, corner: Point, size: Point, **attributes: object) -> None:
        self._add("rect", x=corner[0], y=corner[1], width=size[0], height=size[1], **attributes)

    def polygon(self, points: Iterable[Point], **attributes: object) -> None:
        self._add("polygon", points=" ".join(f"{_number(x)},{_number(y)}" for x, y in points), **attributes)

    def text(self, at: Point, words: str, colour: str, size: float = 13, **attributes: object) -> None:
        listed = _attributes({"x": at[0], "y": at[1], "fill": colour, "font_size": size, **attributes})
        self.parts.append(f"<text {listed}>{escape(words)}</text>")

    def clip(self, name: str, corner: Point, size: Point) -> None:
        """Define an area outside of which shapes with clip_path="url(#name)" do not show."""
        box = _attributes({"x": corner[0], "y": corner[1], "width": size[0], "height": size[1]})
        self.parts.append(f'<clipPath id="{name}"><rect {box}/></clipPath>')

    def _add(self, tag: str, **attributes: object) -> None:
        self.parts.append(f"<{tag} {_attributes(attributes)}/>")

    def __str__(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="{FONT}">'
        )
        return "\n".join([head, *self.parts, "</svg>", ""])


def _number(value: object) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _attributes(values: dict[str, object]) -> str:
    return " ".join(f'{name.replace("_", "-")}="{_number(value)}"' for name, value in values.items())
