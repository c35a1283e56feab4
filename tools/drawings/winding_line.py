"""The drawing of how a pair of weights becomes a step of the winding line."""

from __future__ import annotations

from tools.drawings.svg import Drawing, Point, Theme

# Twelve windings with a step of 0.008; one pair of weights inside the square and one outside.
WINDINGS = 12
STEP = 0.008
SIDE = WINDINGS * STEP
PAIR = (0.0170, 0.0168)
OUTLIER = (-0.0572, 0.0327)
SHELL_SCALE = 1.4
ROOM = 330.0  # pixels of the shell's side
CENTRE: Point = (190.0, 205.0)


def step_of(pair: Point) -> int:
    """Return the number of the step nearest to a pair inside the square."""
    phase = round(pair[1] / STEP + (WINDINGS - 1) / 2)
    return round((pair[0] * WINDINGS**2 / SIDE + (WINDINGS**2 - 1) / 2 - phase) / WINDINGS) * WINDINGS + phase


def point_of(step: int) -> Point:
    """Return where a step stands."""
    phase = step % WINDINGS
    return (step - (WINDINGS**2 - 1) / 2) * SIDE / WINDINGS**2, (phase - (WINDINGS - 1) / 2) * STEP


def _pixel(point: Point) -> Point:
    scale = ROOM / (SHELL_SCALE * SIDE)
    return CENTRE[0] + scale * point[0], CENTRE[1] - scale * point[1]


def _enlarged(point: Point) -> Point:
    return SHELL_SCALE * point[0], SHELL_SCALE * point[1]


def winding_line(theme: Theme) -> Drawing:
    """Return the drawing of a pair of weights and the step of the line that stands for it."""
    drawing = Drawing(
        860, 410, "A pair of weights is replaced by the nearest step of a line that winds through a square"
    )
    _shell(drawing, theme)
    _line_in_square(drawing, theme)
    step = step_of(PAIR)
    _pair(drawing, theme, PAIR, point_of(step))
    _explanation(drawing, theme, step)
    return drawing


def _shell(drawing: Drawing, theme: Theme) -> None:
    low, high = _pixel(_enlarged((-SIDE / 2, SIDE / 2))), _pixel(_enlarged((SIDE / 2, -SIDE / 2)))
    size = (high[0] - low[0], high[1] - low[1])
    drawing.box(low, size, fill="none", stroke=theme.muted, stroke_dasharray="4 4")
    outside = [_enlarged(point_of(step)) for step in range(WINDINGS**2)]
    outside = [point for point in outside if max(abs(point[0]), abs(point[1])) > SIDE / 2]
    for point in outside:
        drawing.circle(_pixel(point), 1.8, fill=theme.muted, opacity=0.75)
    nearest = min(outside, key=lambda point: (point[0] - OUTLIER[0]) ** 2 + (point[1] - OUTLIER[1]) ** 2)
    _pair(drawing, theme, OUTLIER, nearest)
    drawing.text((low[0], low[1] - 9), "Shell 1: the same line, enlarged, for pairs outside", theme.muted, 12)


def _line_in_square(drawing: Drawing, theme: Theme) -> None:
    half = SIDE / 2
    corner, end = _pixel((-half, half)), _pixel((half, -half))
    drawing.box(corner, (end[0] - corner[0], end[1] - corner[1]), fill="none", stroke=theme.text, stroke_width=1.5)
    chosen = step_of(PAIR) // WINDINGS
    for winding in range(WINDINGS):
        start = _pixel((-half + winding * STEP, -half))
        stop = _pixel((-half + (winding + 1) * STEP, half))
        is_chosen = winding == chosen
        colour, opacity = (theme.bhk, 1.0) if is_chosen else (theme.others[0], 0.55)
        drawing.line(start, stop, colour, 2.2 if is_chosen else 1.2, opacity=opacity)
    for step in range(WINDINGS**2):
        is_chosen = step // WINDINGS == chosen
        drawing.circle(
            _pixel(point_of(step)), 2.6 if is_chosen else 2.1, fill=theme.bhk if is_chosen else theme.others[0]
        )


def _pair(drawing: Drawing, theme: Theme, pair: Point, nearest: Point) -> None:
    """Draw a pair of weights as a diamond, and a line from it to its step."""
    x, y = _pixel(pair)
    drawing.line((x, y), _pixel(nearest), theme.text, 1.5)
    drawing.circle(_pixel(nearest), 5.0, fill="none", stroke=theme.text, stroke_width=1.6)
    drawing.polygon([(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)], fill=theme.calibrated)


def _explanation(drawing: Drawing, theme: Theme, step: int) -> None:
    winding, phase = divmod(step, WINDINGS)
    decoded = point_of(step)
    x, mark = 434.0, 418.0
    drawing.polygon([(mark, 44), (mark + 6, 50), (mark, 56), (mark - 6, 50)], fill=theme.calibrated)
    _lines(drawing, theme, (x, 55.0), "Two weights are a point.", f"({PAIR[0]:.4f}, {PAIR[1]:.4f}): 64 bits")
    drawing.circle((mark, 126.0), 5.5, fill="none", stroke=theme.text, stroke_width=1.6)
    words = f"step {step} of {WINDINGS**2}: winding {winding}, phase {phase}"
    _lines(drawing, theme, (x, 131.0), "The nearest step of the line stands for it.", words)
    for index, (name, value) in enumerate((("winding", winding), ("phase", phase), ("shell", 0))):
        corner = (x + 108 * index, 178.0)
        drawing.box(corner, (98, 42), fill="none", stroke=theme.bhk, stroke_width=1.5, rx=5)
        drawing.text((corner[0] + 49, corner[1] + 17), name, theme.muted, 12, text_anchor="middle")
        drawing.text(
            (corner[0] + 49, corner[1] + 35), str(value), theme.text, 14, text_anchor="middle", font_weight=600
        )
    drawing.text((x, 244.0), "Each of the three numbers is entropy-coded with zstd.", theme.muted, 14)
    formulas = ("x = centre + side · ((step + ½) / n² − ½)", "y = centre + side · ((phase + ½) / n − ½)")
    result = f"({decoded[0]:.4f}, {decoded[1]:.4f}), with n = {WINDINGS} windings"
    _lines(drawing, theme, (x, 300.0), "Decoding needs no table.", *formulas, result)


def _lines(drawing: Drawing, theme: Theme, at: Point, heading: str, *words: str) -> None:
    drawing.text(at, heading, theme.text, 15, font_weight=600)
    for number, line in enumerate(words, start=1):
        drawing.text((at[0], at[1] + 23 * number), line, theme.muted, 14)
