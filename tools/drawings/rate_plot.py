"""The plot of mask IoU against compression ratio, from the results of the benchmarks."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from tools.drawings.svg import Drawing, Point, Theme

RESULTS = Path(__file__).resolve().parents[1] / "bench" / "results"
WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 60.0, 840.0, 44.0, 380.0
RATIOS = (3.4, 13.6)
IOUS = (0.95, 1.0)


@dataclass(frozen=True)
class Curve:
    """The settings of one coder.

    Attributes:
        coder: as the CSV file names it.
        label: beside the curve.
        colour: an attribute of `Theme`, or an index into its `others`.
        at: where the label stands, as a ratio and an IoU.
        width: of the line; 0 for none.
    """

    csv: str
    coder: str
    label: str
    colour: str | int
    at: Point
    width: float = 1.5


CURVES = (
    Curve("demo_sam", "GGUF", "GGUF", 0, (3.95, 0.9970)),
    Curve("calibration_demo_sam", "round to nearest", "rounding", 2, (7.15, 0.9645)),
    Curve("calibration_demo_sam", "HQQ", "HQQ", 1, (6.0, 0.9690)),
    Curve("calibration_demo_sam", "GPTQ, dead leaves", "GPTQ", 3, (7.85, 0.9710)),
    Curve("calibration_demo_sam", "published method", "published method", "reference", (3.5, 0.9855), 0),
    Curve("calibration_demo_sam", "bhk", "bhk", "bhk", (9.15, 0.9760), 2.6),
    Curve("calibration_demo_sam", "bhk, dead leaves", "bhk, calibrated", "calibrated", (11.1, 0.9925), 2.6),
)


def rate_plot(theme: Theme) -> Drawing:
    """Return the plot; the upper right is best."""
    drawing = Drawing(WIDTH, HEIGHT, "Mask IoU with the original against compression ratio, by coder")
    _axes(drawing, theme)
    drawing.clip("plot", (LEFT, TOP - 6), (RIGHT - LEFT, BOTTOM - TOP + 6))
    for curve in CURVES:
        _curve(drawing, theme, curve)
    return drawing


def settings(curve: Curve) -> list[Point]:
    """Return the (ratio, mask IoU) of each setting, by ratio; the IoU is the mean for boxes and points."""
    with (RESULTS / f"{curve.csv}.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["coder"] == curve.coder and row["ratio"]]
    return sorted((float(row["ratio"]), (float(row["box_iou"]) + float(row["point_iou"])) / 2) for row in rows)


def _pixel(point: Point) -> Point:
    across = (point[0] - RATIOS[0]) / (RATIOS[1] - RATIOS[0])
    up = (point[1] - IOUS[0]) / (IOUS[1] - IOUS[0])
    return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)


def _axes(drawing: Drawing, theme: Theme) -> None:
    for hundredths in range(95, 101):
        (x, y), value = _pixel((RATIOS[0], hundredths / 100)), hundredths / 100
        drawing.line((x, y), (RIGHT, y), theme.faint)
        drawing.text((x - 9, y + 4), f"{value:.2f}", theme.muted, 12, text_anchor="end")
    for ratio in range(4, 14):
        x, y = _pixel((float(ratio), IOUS[0]))
        drawing.line((x, y), (x, y + 5), theme.muted)
        drawing.text((x, y + 21), f"{ratio}×", theme.muted, 12, text_anchor="middle")
    drawing.line((LEFT, BOTTOM), (RIGHT, BOTTOM), theme.muted)
    drawing.text((LEFT - 40, TOP - 22), "IoU with the original's masks", theme.text, 13, font_weight=600)
    words = "compression ratio: float32 weights over the whole file"
    drawing.text((RIGHT, BOTTOM + 46), words, theme.text, 13, font_weight=600, text_anchor="end")


def _curve(drawing: Drawing, theme: Theme, curve: Curve) -> None:
    colour = theme.others[curve.colour] if isinstance(curve.colour, int) else getattr(theme, curve.colour)
    points = [_pixel(point) for point in settings(curve)]
    if curve.width:
        drawing.path(points, colour, curve.width, clip_path="url(#plot)", stroke_linejoin="round")
    for x, y in points:
        if y <= BOTTOM and LEFT <= x <= RIGHT:
            radius = 4.5 if curve.width > 2 else 5.5 if curve.width == 0 else 3.5
            drawing.circle((x, y), radius, fill=colour)
    size, weight = (15, 700) if curve.width > 2 else (13, 400)
    drawing.text(_pixel(curve.at), curve.label, colour, size, font_weight=weight)
