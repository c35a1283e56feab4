"""Draw the results of coders as PNG files beside them: results/minilm.csv as results/rate_fidelity.png, others by their names.

Each panel shows what is lost against the ratio: lower right is better.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import LogLocator, ScalarFormatter, StrMethodFormatter

from tools.bench.frame.results import RESULTS, read_csv

FITTED = ("fine", "balanced", "small")
PUBLISHED = "published method"

# Okabe and Ito's colours, told apart by all kinds of colour vision; the markers say the same a second time.
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
    """One plot of a figure.

    Attributes:
        loss: what a row has lost.
        label: of the axis.
        interval: columns of the loss's interval; () for none, and a logarithmic axis.
    """

    loss: Callable[[CsvRow], float]
    label: str
    interval: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure of one result file.

    Attributes:
        curves: whether the settings of a coder are joined, and the published method's loss is drawn across.
    """

    csv: str
    png: str
    title: str
    panels: tuple[Panel, ...]
    curves: bool = False


COSINE = Panel(
    lambda row: float(row["mean_1_minus_cos"]),
    "mean 1 - cosine of sentence embeddings (less is better)",
)
MASKS = Panel(
    lambda row: 1 - (float(row["box_iou"]) + float(row["point_iou"])) / 2,
    "1 - IoU with the original's masks, boxes and points (less is better)",
)
POINTS = Panel(
    lambda row: float(row["point_drop"]),
    "mIoU lost by one-point prompts, per cent (less is better)",
    ("point_drop_low", "point_drop_high"),
)
MINILM = "all-MiniLM-L6-v2, 22.7 M float32 weights, 200 sentences"
DEMO_SAM = "demo SAM, 3.7 M float32 weights, scenes not trained on"
HELD_OUT_SAM = "another small SAM, of other width and depth"

FIGURES = (
    Figure("minilm", "rate_fidelity", MINILM, (COSINE,)),
    Figure("demo_sam", "demo_sam", DEMO_SAM, (MASKS, POINTS)),
    Figure("calibration_minilm", "calibration_minilm", MINILM, (COSINE,), curves=True),
    Figure("calibration_demo_sam", "calibration_demo_sam", DEMO_SAM, (MASKS,), curves=True),
    Figure("calibration_held_out_sam", "calibration_held_out_sam", HELD_OUT_SAM, (MASKS,), curves=True),
)


def label(row: CsvRow) -> str:
    """Return what stands beside a point."""
    if offsets := re.fullmatch(r"balanced, blocks (\S+) dB, rest (\S+) dB", row["setting"]):
        return "/".join(offsets.groups())
    setting = row["setting"].removesuffix(" per row").removeprefix("balanced, ")
    return (
        setting.replace(", group ", " g") if row["coder"] == "round to nearest" else setting.removesuffix(", group 64")
    )


def draw(axes: pyplot.Axes, coder: str, rows: list[CsvRow], panel: Panel, curves: bool) -> None:
    """Draw one coder's rows; the fitted presets of bhk are joined by a line, or with `curves` all rows."""
    colour, marker = STYLES[coder]
    is_bhk = coder.startswith("bhk")
    points = [(float(row["ratio"]), panel.loss(row), label(row)) for row in rows]
    across, up = [x for x, _, _ in points], [y for _, y, _ in points]
    axes.scatter(across, up, s=70 if is_bhk else 40, c=colour, marker=marker, label=coder, zorder=3)
    if panel.interval:
        low, high = ([float(row[column]) for row in rows] for column in panel.interval)
        axes.vlines(across, low, high, colors=colour, linewidth=0.8)
    for x, y, text in points:
        if (panel.interval and "/" in text) or (curves and is_bhk):
            continue
        offset, align = SIDES.get(text, UNDER_LINE if is_bhk or curves else RIGHT)
        axes.annotate(
            text,
            (x, y),
            xytext=offset,
            textcoords="offset points",
            ha=align,
            fontsize=9,
            fontweight="bold" if is_bhk else "normal",
            color=colour,
            zorder=4,
        )
    line = sorted((x, y) for x, y, text in points if curves or text in FITTED)
    axes.plot([x for x, _ in line], [y for _, y in line], color=colour, linewidth=2 if is_bhk else 1, zorder=2)
    if curves and coder == PUBLISHED:
        axes.axhline(up[0], color=colour, linewidth=0.8, linestyle="--", zorder=1)


def finish(axes: pyplot.Axes, panel: Panel) -> None:
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


def main() -> None:
    for chosen in FIGURES:
        if not (RESULTS / f"{chosen.csv}.csv").exists():
            continue
        rows = [row for row in read_csv(chosen.csv) if row["ratio"]]
        figure, grid = pyplot.subplots(
            1, len(chosen.panels), figsize=(8 * len(chosen.panels), 5.2), layout="constrained", squeeze=False
        )
        for axes, panel in zip(grid[0], chosen.panels, strict=True):
            for coder in STYLES:
                if of_coder := [row for row in rows if row["coder"] == coder]:
                    draw(axes, coder, of_coder, panel, chosen.curves)
            finish(axes, panel)
        grid[0, 0].set_title(chosen.title, loc="left", fontsize=11)
        grid[0, 0].legend(frameon=False, loc="upper left" if chosen.curves else "lower right")
        path = RESULTS / f"{chosen.png}.png"
        figure.savefig(path, dpi=150, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    main()
