"""A plot of several presets for one model: fidelity against ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bhk.base.files import WriteError
from bhk.base.packages import import_package
from bhk.base.texts import printable
from bhk.reports.figures import MATPLOTLIB, METADATA, NAMES_AS_TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".pdf", ".svg", ".png")

# Two colours of Okabe and Ito, distinguishable with any colour vision; the markers differ as well.
_STYLES = (("#D55E00", "o"), ("#0072B2", "s"))


@dataclass(frozen=True)
class Mark:
    """A preset in the plot.

    Attributes:
        name: its label.
        ratio: how many times smaller the file is.
        snr_db: signal-to-noise ratio of all coded tensors in dB; plotted if there are no masks.
        masks: mean and first percentile of the IoU with the original's masks, for each kind of prompt.
    """

    name: str
    ratio: float
    snr_db: float | None
    masks: Mapping[str, tuple[float, float]]


def check_figure(path: Path) -> None:
    """Check before any work that a plot can be drawn for `path`.

    Raises:
        WriteError: its suffix is not one of `SUFFIXES`.
        MissingPackageError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise WriteError(f"{path}: unknown suffix {path.suffix!r}; use {', '.join(SUFFIXES)}")
    import_package([MATPLOTLIB])


def draw_comparison(marks: Sequence[Mark], title: str, file: BinaryIO, suffix: str) -> None:
    """Plot the IoU of each preset against its ratio, or its signal-to-noise ratio if there are no masks.

    Args:
        marks: the presets.
        title: title of the plot.
        file: the file to write to.
        suffix: the format, one of `SUFFIXES`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(NAMES_AS_TEXT):
        _draw(Figure(figsize=(7, 4.5), layout="constrained"), marks, title, file, suffix)


def _draw(figure: Figure, marks: Sequence[Mark], title: str, file: BinaryIO, suffix: str) -> None:
    axes = figure.subplots()
    if any(mark.masks for mark in marks):
        _draw_masks(axes, marks)
    else:
        _draw_errors(axes, marks)
    axes.set_xlabel("times smaller than the original (more is better)")
    axes.set_title(printable(title), loc="left", fontsize=11)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.1, y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    kind = suffix.lower().removeprefix(".")
    figure.savefig(file, format=kind, dpi=150, metadata=METADATA[kind])


def _draw_masks(axes: Axes, marks: Sequence[Mark]) -> None:
    kinds = list(dict.fromkeys(kind for mark in marks for kind in mark.masks))
    for kind, (colour, marker) in zip(kinds, _STYLES, strict=False):
        ratios = [mark.ratio for mark in marks]
        means, lows = zip(*(mark.masks[kind] for mark in marks), strict=True)
        axes.scatter(ratios, means, c=colour, marker=marker, label=f"{kind}, mean", zorder=3)
        axes.scatter(ratios, lows, edgecolors=colour, facecolors="none", marker=marker, label=f"{kind}, 1st percentile")
        axes.vlines(ratios, lows, means, colors=colour, linewidth=1)
    for mark in marks:
        _name(axes, mark, max(mean for mean, _ in mark.masks.values()))
    axes.set_ylabel("IoU with the masks of the original")
    axes.legend(frameon=False)


def _draw_errors(axes: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        if mark.snr_db is not None:
            axes.scatter([mark.ratio], [mark.snr_db], c=_STYLES[0][0], marker=_STYLES[0][1], zorder=3)
            _name(axes, mark, mark.snr_db)
    axes.set_ylabel("signal-to-noise ratio of the weights, dB")


def _name(axes: Axes, mark: Mark, height: float) -> None:
    axes.annotate(mark.name, (mark.ratio, height), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
