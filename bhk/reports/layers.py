"""What a report draws of each layer, computed from a sample of its weights.

SAM-H has 640 million weights, but drawing a layer takes only about 100,000 of them. A few evenly spaced runs of rows are
decoded, and compared with the same rows of the original if it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bhk.base.errors import BhkError
from bhk.base.parallel import ordered_map, worker_count
from bhk.base.progress import Progress
from bhk.codec.codebook import Codebook
from bhk.codec.dtypes import widened
from bhk.codec.shape import Shape
from bhk.container.header import LayerEntry
from bhk.file.bhkfile import BhkFile

SAMPLE_WEIGHTS = 1 << 17
RUNS = 4  # at most, of rows per layer
MAX_BINS = 96
ERROR_BINS = 60
ERROR_REACH = 0.75  # steps; inside the square, errors are at most half a step
MAX_GRID = 64
WINDOW = 12  # windings and phases drawn around the centre
MAX_LINKS = 240
MAX_OUTLIERS = 200
TOLERANCE = 1e-4  # files state errors with five significant digits
_TAIL = 5e-4  # share of the weights beyond each end of a histogram

Counts: TypeAlias = NDArray[np.uint32]
Floats: TypeAlias = NDArray[np.float64]
Originals: TypeAlias = Callable[[str], Tensor]


class OriginalError(BhkError):
    """The file was not converted from the given original."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts in bins of equal width. The first and the last bin include all values beyond them.

    Attributes:
        low: lower edge of the first bin, in units of the weights.
        width: width of a bin.
        counts: uint32 (bins,).
    """

    low: float
    width: float
    counts: Counts = field(repr=False)

    @classmethod
    def of(cls, values: Floats, low: float, width: float, bins: int) -> Histogram:
        """Count the finite values."""
        index = ((values[np.isfinite(values)] - low) / width).clip(0, bins - 0.5).astype(np.int64)
        return cls(low, width, np.bincount(index, minlength=bins).astype(np.uint32))


@dataclass(frozen=True, eq=False)
class Pairs:
    """The sampled pairs of a coded layer on the lattice of its codebook.

    Attributes:
        density: number of pairs in each cell of a grid over the square, uint32 (windings, phases), at most MAX_GRID each.
        window: number of pairs at each step around the centre, uint32 (windings, phases), at most WINDOW each.
        corner: winding and phase of the window's first step.
        links: original pairs inside the window and the steps they were coded as, float64 (k, 4): x and y of the pair, winding
            and phase of its code, all in steps from the window's first step. None without the original.
        outliers: decoded pairs outside the square, float64 (k, 2), relative to its centre in units of its side; at most
            MAX_OUTLIERS.
        outside: number of sampled pairs that decode to points outside the square.
    """

    density: Counts = field(repr=False)
    window: Counts = field(repr=False)
    corner: tuple[int, int]
    links: Floats | None = field(repr=False)
    outliers: Floats = field(repr=False)
    outside: int


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a report draws of one layer.

    Attributes:
        sampled: number of sampled weights.
        decoded, original: histograms of the weights in the same bins. For a coded layer, the width of a bin is a whole number
            of lattice steps and the bins are centred on the lattice, so that each holds equally many lattice points.
        error: histogram of decoded minus original weights; None without the original or for an exact layer.
        pairs: the pairs of a coded layer; None for an exact layer.
    """

    sampled: int
    decoded: Histogram
    original: Histogram | None
    error: Histogram | None
    pairs: Pairs | None


def sketches(
    file: BhkFile, original: Originals | None, *, threads: int | None = None, progress: Progress | None = None
) -> Iterator[Sketch | None]:
    """Yield the sketch of each layer in the order of the layer map; None for a layer without weights.

    The hash of every stream is checked on the way.

    Args:
        file: the open file.
        original: returns the tensor of a name from the original checkpoint; None without the original.
        threads: worker threads; None: one per core.
        progress: called with ("Layers", dense bytes done, all dense bytes).

    Raises:
        OriginalError: a tensor of the original has another shape or dtype, or a larger error than the file states.
        StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
    """
    done, total = 0, sum(layer.dense_bytes for layer in file.layers)
    drawn = ordered_map(lambda layer: sketch(file, layer, original), file.layers, worker_count(threads))
    for layer, result in zip(file.layers, drawn, strict=True):
        done += layer.dense_bytes
        if progress:
            progress("Layers", done, total)
        yield result


def sketch(file: BhkFile, layer: LayerEntry, original: Originals | None) -> Sketch | None:
    """Return the sketch of one layer; see `sketches`."""
    if not layer.numel:
        return None
    rows = sample_rows(layer)
    decoded = [file.tensor(layer.name, part) for part in rows]
    reference = None if original is None else _reference(original(layer.name), layer, rows, decoded[0].dtype)
    weights = _joined(decoded)
    codebook = file.codebook(layer.name)
    low, width, bins = _bins(weights, codebook)
    before = error = None
    if reference is not None:
        values = _joined(reference)
        before = Histogram.of(values, low, width, bins)
        difference = weights - values
        _check(layer, difference)
        if codebook is not None:
            reach = ERROR_REACH * codebook.step
            error = Histogram.of(difference, -reach, 2 * reach / ERROR_BINS, ERROR_BINS)
    pairs = None if codebook is None else _pairs(layer, codebook, decoded, reference)
    return Sketch(weights.size, Histogram.of(weights, low, width, bins), before, error, pairs)


def sample_rows(layer: LayerEntry) -> list[slice | None]:
    """Return the runs of rows (first dimension) to sample; None stands for the whole tensor.

    Runs begin at an even row, so that the part forms the same pairs as the whole with either pairing.
    """
    if layer.numel <= SAMPLE_WEIGHTS or layer.shape[0] == 1:
        return [None]
    rows, length = layer.shape[0], layer.numel // layer.shape[0]
    runs = min(max(SAMPLE_WEIGHTS // (2 * length), 1), RUNS)
    count = max(SAMPLE_WEIGHTS // runs // length // 2 * 2, 2)
    last = max(rows - count, 0)
    starts = sorted({round(run * last / max(runs - 1, 1)) // 2 * 2 for run in range(runs)})
    return [slice(start, min(start + count, rows)) for start in starts]


def _reference(tensor: Tensor, layer: LayerEntry, rows: list[slice | None], dtype: torch.dtype) -> list[Tensor]:
    if tuple(tensor.shape) != layer.shape or tensor.dtype != dtype:
        raise OriginalError(
            f"tensor {layer.name!r} is {dtype} {list(layer.shape)} in the file, but {tensor.dtype} "
            f"{list(tensor.shape)} in the original; give the checkpoint that the file was converted from"
        )
    return [tensor if part is None else tensor[part] for part in rows]


def _check(layer: LayerEntry, difference: Floats) -> None:
    """Check that the errors of the sampled weights are within the largest error that the file states."""
    largest = float(np.abs(difference[np.isfinite(difference)]).max(initial=0.0))
    allowed = layer.error.max_abs * (1 + TOLERANCE) if layer.error else 0.0
    if largest > allowed:
        raise OriginalError(
            f"tensor {layer.name!r} differs by {largest:.3g} from the original, but by at most {allowed:.3g} when the file was "
            "written; give the checkpoint that the file was converted from"
        )


def _joined(parts: list[Tensor]) -> Floats:
    """Return all elements as float64 (n,), for complex ones both parts."""
    wide = [widened(part.detach().resolve_conj()) for part in parts]
    real = [torch.view_as_real(part) if part.is_complex() else part for part in wide]
    return torch.cat([part.reshape(-1) for part in real]).numpy()


def _bins(weights: Floats, codebook: Codebook | None) -> tuple[float, float, int]:
    """Return the lower edge, width and number of the bins of a histogram of `weights`."""
    finite = weights[np.isfinite(weights)]
    low, high = np.quantile(finite, (_TAIL, 1 - _TAIL)).tolist() if finite.size else (0.0, 0.0)
    if codebook is None:
        width = (high - low) / MAX_BINS or abs(low) / MAX_BINS or 1.0
        return (low, width, MAX_BINS) if high > low else (low - width / 2, width, 1)
    steps = math.ceil((high - low) / codebook.step / (MAX_BINS - 2)) or 1
    width = steps * codebook.step
    base = codebook.centre[1] - (codebook.trajectory.origin_y + 0.5) * codebook.step
    edge = base + width * math.floor((low - base) / width)
    return edge, width, max(math.ceil((high - edge) / width), 1)


def _pairs(layer: LayerEntry, codebook: Codebook, decoded: list[Tensor], reference: list[Tensor] | None) -> Pairs:
    n = codebook.windings
    pairs = _whole_pairs(layer, decoded)
    codes, outside = codebook.encode_square(pairs)  # pairs inside lie on the lattice: these are their codes
    inside = np.ones(len(pairs), dtype=bool)
    inside[outside.numpy()] = False
    winding, phase = (plane.numpy().astype(np.int64) for plane in (codes.winding, codes.phase))
    grid = min(n, MAX_GRID)
    cells = (winding[inside] * grid // n) * grid + phase[inside] * grid // n
    size, first = min(n, WINDOW), max((n - WINDOW) // 2, 0)
    q, r = winding - first, phase - first
    near = inside & (q >= 0) & (q < size) & (r >= 0) & (r < size)
    steps = q[near] * size + r[near]
    links = None
    if reference is not None:
        links = _links(codebook, _whole_pairs(layer, reference)[near].double().numpy(), q[near], r[near], first)
    offsets = (pairs[outside[:MAX_OUTLIERS]].double().numpy() - codebook.centre) / codebook.side
    return Pairs(
        density=np.bincount(cells, minlength=grid**2).astype(np.uint32).reshape(grid, grid),
        window=np.bincount(steps, minlength=size**2).astype(np.uint32).reshape(size, size),
        corner=(first, first),
        links=links,
        outliers=offsets,
        outside=outside.numel(),
    )


def _whole_pairs(layer: LayerEntry, parts: list[Tensor]) -> Tensor:
    """Return the pairs of parts of a layer as float32 (P, 2), without pairs that contain padding."""
    pairing = layer.pairs.pairing
    found = []
    for part in parts:
        length = part.shape[-1] if pairing == "rows" else part.numel()
        rows = part.reshape(-1, length)[:, : length // 2 * 2]
        found.append(Shape(tuple(rows.shape), "rows").split(rows).to(torch.float32))
    return torch.cat(found)


def _links(codebook: Codebook, pairs: Floats, winding: Any, phase: Any, first: int) -> Floats:
    """Return `Pairs.links` for some of the original `pairs` (P, 2), evenly spaced."""
    if not len(pairs):
        return np.empty((0, 4))
    some = np.unique(np.linspace(0, len(pairs) - 1, MAX_LINKS).astype(np.int64))
    trajectory = codebook.trajectory
    offsets = (pairs[some] - codebook.centre) / codebook.step
    origin = (trajectory.origin_x / trajectory.steps_a_winding, trajectory.origin_y)
    return np.column_stack([offsets + origin - first, winding[some], phase[some]])
