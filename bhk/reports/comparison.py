"""The figure of several presets of one model: what is left against how small it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bhk.base.files import WriteError
from bhk.base.packages import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png")

# Of Okabe and Ito's colours, told apart by all kinds of colour vision; the markers say the same a second time.
_STYLES = (("#D55E00", "o"), ("#0072B2", "s"))


@dataclass(frozen=True)
class Mark:
    """A preset in the figure.

    Attributes:
        name: what stands beside it.
        ratio: how many times smaller the file is.
        snr_db: of all coded tensors; drawn where there are no masks.
        masks: for each kind of prompt, mean and first percentile of the IoU with the original's masks.
    """

    name: str
    ratio: float
    snr_db: float | None
    masks: Mapping[str, tuple[float, float]]


def check_figure(path: Path) -> None:
    """Raise before any work is done if no figure can be drawn for `path`.

    Raises:
        WriteError: its suffix is none of `SUFFIXES`.
        MissingPackageError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise WriteError(f"{path}: unknown suffix {path.suffix!r}; use {', '.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise MissingPackageError("figures need matplotlib, which is not installed; run: pip install 'bhk[report]'")


def draw_comparison(marks: Sequence[Mark], title: str, file: BinaryIO, suffix: str) -> None:
    """Draw presets by their ratio and their masks, or their signal-to-noise ratio where there are none.

    Args:
        title: over the figure.
        suffix: of the format, one of `SUFFIXES`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    if any(mark.masks for mark in marks):
        _draw_masks(axes, marks)
    else:
        _draw_errors(axes, marks)
    axes.set_xlabel("times smaller than the original (more is better)")
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.1, y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    kind = suffix.lower().removeprefix(".")
    figure.savefig(file, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})


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
