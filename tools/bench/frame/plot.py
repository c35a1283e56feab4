"""Plots of what coders lose against their ratio: lower right is better."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.frame.results import read_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FITTED = ("fine", "balanced", "small")
PUBLISHED = "published method"

# Okabe and Ito's colours, which all kinds of colour vision tell apart; the markers say the same a second time.
STYLES = {
    "bhk, sentences": ("#7B1E3A", "P"),
    "bhk, dead leaves": ("#7B1E3A", "P"),
    "bhk, random tokens": ("#E69F00", "X"),
    "bhk, noise": ("#E69F00", "X"),
    "bhk": ("#D55E00", "o"),
    PUBLISHED: ("#000000", "*"),
    "GPTQ, sentences": ("#0072B2", "D"),
    "GPTQ, dead leaves": ("#0072B2", "D"),
    "GPTQ, random tokens": ("#56B4E9", "d"),
    "GGUF": ("#0072B2", "s"),
    "HQQ": ("#009E73", "^"),
    "NNCodec": ("#A6548A", "D"),
    "round to nearest": ("#555555", "v"),
}

# Where a label stands: offset in points, horizontal alignment. Several points lie close together.
RIGHT, LEFT, ABOVE, BELOW = ((7, -3), "left"), ((-7, -3), "right"), ((0, 7), "center"), ((0, -14), "center")
UNDER_LINE = ((8, -13), "left")
SIDES = {"Q8_0": LEFT, "Q5_1": BELOW, "Q5_0": ABOVE, "Q4_1": LEFT, "Q4_0": ABOVE, "int6": LEFT, "int8": ABOVE}
SIDES |= {"qp -32": LEFT, "qp -28": LEFT, "birkhoff": ABOVE, "balanced": LEFT, "int8 in all layers": RIGHT}

CsvRow = dict[str, str]


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes:
        loss: returns what a row has lost.
        label: of the vertical axis.
        interval: columns with the ends of the loss's interval. Without them the axis is logarithmic.
    """

    loss: Callable[[CsvRow], float]
    label: str
    interval: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """The figure of a result file.

    Attributes:
        png: name of the picture, without suffix; that of the CSV file if empty.
        curves: join the settings of each coder by a line, and draw the published method's loss across.
    """

    title: str
    panels: tuple[Panel, ...]
    png: str = ""
    curves: bool = False

    def draw(self, csv: Path) -> Path:
        """Draw a result file as a PNG file beside it."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        rows = [row for row in read_csv(csv) if row["ratio"]]
        size = (8 * len(self.panels), 5.2)
        figure, (grid,) = pyplot.subplots(1, len(self.panels), figsize=size, layout="constrained", squeeze=False)
        for axes, panel in zip(grid, self.panels, strict=True):
            for coder in STYLES:
                if of_coder := [row for row in rows if row["coder"] == coder]:
                    _draw_coder(axes, coder, of_coder, panel, self.curves)
            _finish(axes, panel)
        grid[0].set_title(self.title, loc="left", fontsize=11)
        grid[0].legend(frameon=False, loc="upper left" if self.curves else "lower right")
        path = csv.with_name(f"{self.png or csv.stem}.png")
        figure.savefig(path, dpi=150, metadata={"Software": None})
        pyplot.close(figure)
        return path


def _label(row: CsvRow) -> str:
    """Return what stands beside a point."""
    if offsets := re.fullmatch(r"balanced, blocks (\S+) dB, rest (\S+) dB", row["setting"]):
        return "/".join(offsets.groups())
    setting = row["setting"].removesuffix(" per row").removeprefix("balanced, ")
    return (
        setting.replace(", group ", " g") if row["coder"] == "round to nearest" else setting.removesuffix(", group 64")
    )


def _draw_coder(axes: Axes, coder: str, rows: list[CsvRow], panel: Panel, curves: bool) -> None:
    """Draw one coder's rows. A line joins the fitted presets of bhk, or with `curves` all rows."""
    colour, marker = STYLES[coder]
    is_bhk = coder.startswith("bhk")
    points = [(float(row["ratio"]), panel.loss(row), _label(row)) for row in rows]
    across, up = [x for x, _, _ in points], [y for _, y, _ in points]
    axes.scatter(across, up, s=70 if is_bhk else 40, c=colour, marker=marker, label=coder, zorder=3)
    if panel.interval:
        low, high = ([float(row[column]) for row in rows] for column in panel.interval)
        axes.vlines(across, low, high, colors=colour, linewidth=0.8)
    for x, y, text in points:
        if (panel.interval and "/" in text) or (curves and is_bhk):
            continue
        offset, align = SIDES.get(text, UNDER_LINE if is_bhk or curves else RIGHT)
        weight = "bold" if is_bhk else "normal"
        look = {"ha": align, "fontsize": 9, "fontweight": weight, "color": colour, "zorder": 4}
        axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", **look)
    line = sorted((x, y) for x, y, text in points if curves or text in FITTED)
    axes.plot([x for x, _ in line], [y for _, y in line], color=colour, linewidth=2 if is_bhk else 1, zorder=2)
    if curves and coder == PUBLISHED:
        axes.axhline(up[0], color=colour, linewidth=0.8, linestyle="--", zorder=1)


def _finish(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator, ScalarFormatter, StrMethodFormatter

    if not panel.interval:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xscale("log")
    axes.set_xticks([3, 4, 5, 6, 7, 8, 9, 10, 12, 14])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("compression ratio, whole checkpoint (more is better)")
    axes.set_ylabel(panel.label)
