"""Draw results/minilm.csv as results/rate_fidelity.png: 1 - cosine against ratio, lower right is better."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import ScalarFormatter

from tools.bench.table import RESULTS, read_csv

FITTED = ("fine", "balanced", "small")

# Okabe and Ito's colours, told apart by all kinds of colour vision; the markers say the same a second time.
STYLES = {
    "bhk": ("#D55E00", "o"),
    "GGUF": ("#0072B2", "s"),
    "HQQ": ("#009E73", "^"),
    "NNCodec": ("#A6548A", "D"),
    "round to nearest": ("#555555", "v"),
}

# Where a label stands: offset in points, horizontal alignment. Several points lie close together.
RIGHT, LEFT, ABOVE, BELOW = ((7, -3), "left"), ((-7, -3), "right"), ((0, 7), "center"), ((0, -14), "center")
SIDES = {"Q8_0": LEFT, "Q5_1": BELOW, "Q5_0": ABOVE, "Q4_1": LEFT, "Q4_0": ABOVE, "int6": LEFT, "int8": ABOVE}
SIDES |= {"qp -32": LEFT, "qp -28": LEFT}


def draw(axes: pyplot.Axes, coder: str, points: list[tuple[float, float, str]]) -> None:
    """Draw one coder's points (ratio, 1 - cosine, label); bhk's fitted presets are joined by a line."""
    colour, marker = STYLES[coder]
    is_bhk = coder == "bhk"
    across, up = [x for x, _, _ in points], [y for _, y, _ in points]
    axes.scatter(across, up, s=70 if is_bhk else 40, c=colour, marker=marker, label=coder, zorder=3)
    for x, y, text in points:
        offset, align = SIDES.get(text, ((8, -13), "left") if is_bhk else RIGHT)
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
    if is_bhk:
        line = sorted((x, y) for x, y, text in points if text in FITTED)
        axes.plot([x for x, _ in line], [y for _, y in line], color=colour, linewidth=2, zorder=2)


def finish(axes: pyplot.Axes) -> None:
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_xticks([3, 4, 5, 6, 7, 8, 10, 12, 15])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("compression ratio, whole checkpoint (more is better)")
    axes.set_ylabel("mean 1 - cosine of sentence embeddings (less is better)")
    axes.set_title("all-MiniLM-L6-v2, 22.7 M float32 weights, 200 sentences", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="lower right")


def main() -> None:
    rows = [row for row in read_csv("minilm") if row["ratio"]]
    figure, axes = pyplot.subplots(figsize=(8, 5.2), layout="constrained")
    for coder in STYLES:
        points = [
            (float(row["ratio"]), float(row["mean_1_minus_cos"]), row["setting"].split(",")[0].removesuffix(" per row"))
            for row in rows
            if row["coder"] == coder
        ]
        if points:
            draw(axes, coder, points)
    finish(axes)
    path = RESULTS / "rate_fidelity.png"
    figure.savefig(path, dpi=150, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
