"""The main figures of a report as PDF, PNG and SVG files, drawn by matplotlib: layer map, rate and error, codebook, masks."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bhk.base.files import Replacement, check_destination
from bhk.base.packages import Package, import_package
from bhk.base.texts import printable
from bhk.codec.codebook import Codebook
from bhk.container.header import LayerEntry
from bhk.reports.layers import Pairs
from bhk.reports.page_data import PageContent, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bhk.reports.masks import PictureMasks

MATPLOTLIB = Package("matplotlib", "run: pip install matplotlib")
NAMES = ("layer_map", "rate_against_error", "codebook", "masks")
FORMATS = ("pdf", "png", "svg")
# What would differ between two files of one figure.
METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}
DPI = 200
MOST_BLOCKS = 200  # in the layer map

# Names from files are no formulas, whatever dollar signs they have.
NAMES_AS_TEXT: Any = {"text.parse_math": False}

# The colours of Okabe and Ito, as on the page.
ROLE_COLOURS = {
    "linear": "#0072b2",
    "conv": "#d55e00",
    "embedding": "#009e73",
    "norm": "#e69f00",
    "bias": "#cc79a7",
    "buffer": "#56b4e9",
    "other": "#8a8f98",
}
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "bhk",  # makes the files reproducible
    **NAMES_AS_TEXT,
}


def check_figures(folder: Path, *, force: bool) -> None:
    """Check before any work that the figures can be drawn and written into a folder that is there.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the folder holds a figure and `force` is false, or cannot be written.
    """
    import_package([MATPLOTLIB])
    for name in NAMES:
        for suffix in FORMATS:
            check_destination(folder / f"{name}.{suffix}", force=force)


def write_figures(content: PageContent, folder: Path, new: Replacement) -> tuple[Path, ...]:
    """Write every figure that there is data for, among the files of `new`, and return their paths."""
    import matplotlib
    from matplotlib.figure import Figure

    coded = [layer for layer in content.file.layers if layer.error is not None]
    written = []
    with matplotlib.rc_context(_STYLE):
        figures = {"layer_map": _layer_map(Figure(layout="constrained"), content.file.layers)}
        if any(layer.error and layer.error.snr_db is not None for layer in coded):
            figures["rate_against_error"] = _rate(Figure(figsize=(5.2, 3.8), layout="constrained"), coded)
        if (largest := _representative(content)) is not None:
            figures["codebook"] = _codebook(Figure(figsize=(7.2, 4.2), layout="constrained"), *largest)
        if content.pictures:
            figures["masks"] = _masks(Figure(layout="constrained"), content.pictures)
        for name, figure in figures.items():
            for suffix in FORMATS:
                path = folder / f"{name}.{suffix}"
                figure.savefig(new.open(path), format=suffix, dpi=DPI, metadata=METADATA[suffix])
                written.append(path)
    return tuple(written)


def _layer_map(figure: Figure, layers: Sequence[LayerEntry]) -> Figure:
    """Draw the bytes of each block, stacked by role, in the order of the file."""
    found: dict[str, dict[str, int]] = {}
    for layer in layers:
        sizes = found.setdefault(_block(layer.name), {})
        sizes[layer.role] = sizes.get(layer.role, 0) + layer.stored_bytes
    blocks = _largest(found)
    figure.set_size_inches(7, 0.9 + 0.14 * len(blocks))
    axes = figure.subplots()
    places, ends = np.arange(len(blocks)), np.zeros(len(blocks))
    for role, colour in ROLE_COLOURS.items():
        widths = np.array([sizes.get(role, 0) for sizes in blocks.values()]) / 1e6
        if widths.any():
            axes.barh(places, widths, left=ends, color=colour, label=role)
            ends += widths
    axes.set_yticks(places, list(map(printable, blocks)), fontsize=7)
    axes.set(xlim=(0, 1.02 * ends.max(initial=0) or 1), ylim=(len(blocks) - 0.4, -0.6), xlabel="bytes in the file, MB")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside upper center", ncols=len(ROLE_COLOURS), frameon=False, fontsize=8, columnspacing=1.2)
    return figure


def _largest(blocks: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    """Return the largest blocks, and the others together as one: a figure of all would be metres high."""
    if len(blocks) <= MOST_BLOCKS:
        return dict(blocks)
    kept = set(sorted(blocks, key=lambda name: -sum(blocks[name].values()))[:MOST_BLOCKS])
    others: dict[str, int] = {}
    for name, sizes in blocks.items():
        if name not in kept:
            for role, count in sizes.items():
                others[role] = others.get(role, 0) + count
    shown = {name: sizes for name, sizes in blocks.items() if name in kept}
    return {**shown, f"{len(blocks) - len(kept):,} others": others}


def _block(name: str) -> str:
    found = re.match(r".*?\.\d+(?=\.|$)", name)
    return found[0] if found else name.partition(".")[0]


def _rate(figure: Figure, coded: Sequence[LayerEntry]) -> Figure:
    """Draw bits per weight against SNR, with lines for an entropy-coded lattice and the bound for normal weights."""
    axes = figure.subplots()
    places = [(8 * layer.stored_bytes / layer.numel, layer) for layer in coded if layer.numel]
    for role, colour in ROLE_COLOURS.items():
        found = [
            (bits, layer.error.snr_db, layer.numel)
            for bits, layer in places
            if layer.role == role and layer.error and layer.error.snr_db is not None
        ]
        if found:
            bits, snrs, weights = zip(*found, strict=True)
            areas = 8 + 60 * np.array(weights) / max(layer.numel for _, layer in places)
            axes.scatter(bits, snrs, s=areas, color=colour, alpha=0.8, linewidths=0)
            axes.scatter([], [], s=24, color=colour, linewidths=0, label=role)
    ends = np.array(axes.get_xlim())
    limits = axes.get_ylim()
    axes.plot(ends, 6.0206 * ends - 1.53, color="#555555", linewidth=1, label="entropy-coded lattice")
    axes.plot(ends, 6.0206 * ends, color="#555555", linewidth=1, linestyle="--", label="bound (normal weights)")
    axes.set(xlim=ends, ylim=limits, xlabel="stored bits per weight", ylabel="SNR, dB")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=7)
    return figure


def _representative(content: PageContent) -> tuple[LayerEntry, Codebook, Pairs] | None:
    """Return the coded layer with the most bytes, its codebook and its pairs."""
    found = [
        (layer.stored_bytes, layer, sketch.pairs)
        for layer, sketch in zip(content.file.layers, content.sketches, strict=True)
        if sketch is not None and sketch.pairs is not None
    ]
    if not found:
        return None
    _, layer, pairs = max(found, key=lambda entry: entry[0])
    codebook = content.file.codebook(layer.name)
    return None if codebook is None else (layer, codebook, pairs)


def _codebook(figure: Figure, layer: LayerEntry, codebook: Codebook, pairs: Pairs) -> Figure:
    """Draw the steps around the centre, and the square with the density of the pairs, shells and outliers."""
    window, square = figure.subplots(1, 2)
    _draw_window(window, codebook, pairs)
    reach = 0.5 * codebook.scales[-1]
    square.imshow(
        np.ma.masked_equal(logarithmic(pairs.density).T, 0),
        origin="lower",
        extent=(-0.5, 0.5, -0.5, 0.5),
        cmap="viridis",
    )
    for shell, scale in enumerate(codebook.scales):
        colour, width = ("#0072b2", 1.4) if not shell else ("#888888", 0.7)
        edge = scale / 2
        square.plot([-edge, edge, edge, -edge, -edge], [-edge, -edge, edge, edge, -edge], color=colour, linewidth=width)
    square.scatter(pairs.outliers[:, 0], pairs.outliers[:, 1], s=4, color="#d55e00", linewidths=0)
    square.set(xlim=(-1.04 * reach, 1.04 * reach), ylim=(-1.04 * reach, 1.04 * reach), aspect="equal")
    square.set_title(f"{codebook.windings} windings, {codebook.shells} shells; sides of the square", fontsize=8)
    figure.suptitle(printable(layer.name), fontsize=9)
    return figure


def _draw_window(axes: Axes, codebook: Codebook, pairs: Pairs) -> None:
    size, (_, first) = len(pairs.window), pairs.corner
    q, r = np.mgrid[:size, :size]
    lean = codebook.trajectory.lean
    x = q + (r + first) * lean
    for winding in range(size):
        axes.plot(x[winding], r[winding], color="#0072b2", linewidth=0.7, alpha=0.6)
    share = pairs.window / max(int(pairs.window.max()), 1)
    axes.scatter(x, r, s=90 * share, color="#0072b2", alpha=0.3, linewidths=0)
    axes.scatter(x, r, s=3, color="#0072b2", linewidths=0)
    if pairs.links is not None:
        starts, codes = pairs.links[:, :2], pairs.links[:, 2:]
        ends = codes + np.column_stack([(codes[:, 1] + first) * lean, np.zeros(len(codes))])
        axes.plot(*np.stack([starts, ends]).transpose(2, 0, 1), color="#d55e00", linewidth=0.6)
        axes.scatter(starts[:, 0], starts[:, 1], s=4, color="#d55e00", linewidths=0)
    middle, reach = (size - 1) / 2, size / 2 + 0.3
    shift = (middle + first) * lean
    axes.set(xlim=(middle + shift - reach, middle + shift + reach), ylim=(middle - reach, middle + reach))
    axes.set(aspect="equal", xlabel="winding", ylabel="phase")
    axes.set_title(f"{size} × {size} steps around the centre", fontsize=8)


def _masks(figure: Figure, pictures: Sequence[PictureMasks]) -> Figure:
    """Draw each picture with the masks of both models."""
    from PIL import Image

    heights = [picture.height / picture.width for picture in pictures]
    figure.set_size_inches(7, 3.5 * sum(heights) + 0.25 * len(heights))
    grid: Any = figure.subplots(len(pictures), 2, squeeze=False, height_ratios=heights)
    for row, picture in zip(grid, pictures, strict=True):
        iou = sum(mask.iou for mask in picture.masks) / len(picture.masks)
        sides = (picture.original, "original"), (picture.compressed, f"compressed, mean IoU {iou:.4f}")
        for axes, (image, title) in zip(row, sides, strict=True):
            axes.imshow(np.asarray(Image.open(io.BytesIO(image))))
            axes.set_title(title, fontsize=8)
            axes.set_axis_off()
    return figure
