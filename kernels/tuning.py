"""The tile that a kernel uses on a GPU: measured there once for each dtype and shape, and kept.

The first call with a new shape times the tiles that `tiles_for` of the kernel's module offers (milliseconds each, after about
a second to compile), and appends the best to tiles.csv in bhk's cache folder: `$XDG_CACHE_HOME/bhk`, or `~/.cache/bhk`. What
the `tiles.csv` shipped with bhk holds is not timed again; so far that table is empty. Nothing is timed while a CUDA graph is
captured: run the model once before, as torch requires anyway.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path

import torch
import triton
from torch import Tensor

from .gpu import Gpu
from .kept import folder, open_table
from .sizes import power_of_2

SHIPPED = Path(__file__).with_name("tiles.csv")
LAUNCHES = 20
# Clock cycles that the GPU waits before the timed launches (2 ms at 2 GHz), so that all of them are queued by then.
# Otherwise small kernels would be timed by how fast the host launches them.
QUEUED = 4_000_000


@dataclass(frozen=True)
class Tile:
    """How a product is divided into programs.

    Attributes:
        rows, out: size of the result that a program computes.
        depth: input that one round of its loop reads: pairs in `few_rows`, bytes in `integer`.
        splits: number of programs that share the input of one tile.
        warps, stages: warps of a program, and stages of its software pipeline.
    """

    rows: int
    out: int
    depth: int
    splits: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Problem:
    """A product that needs a tile.

    Attributes:
        dtype: dtype of the activations, or "tf32" where products of float32 use that.
        rows: number of rows, rounded up to a power of two.
        out, width: output features, and input features.
    """

    kernel: str
    dtype: str
    rows: int
    out: int
    width: int


@dataclass(frozen=True)
class Measured:
    """A line of tiles.csv.

    Attributes:
        tile: the fastest; None if decoding the weight and torch's product are faster than every tile.
        microseconds, first_microseconds: times of the fastest tile and of the first that was offered.
    """

    gpu: str
    problem: Problem
    tile: Tile | None
    microseconds: float
    first_microseconds: float


COLUMNS = ("gpu", *(field.name for field in fields(Problem)), *(f"tile_{field.name}" for field in fields(Tile)))
COLUMNS += ("microseconds", "first_microseconds")

Launch = Callable[["Tile | None"], Tensor]

# The tiles chosen in this process, by GPU, kernel, dtype, precision, rows, outputs and width. A call from two threads at
# once may measure a shape twice, and does no other harm.
_chosen: dict[tuple[object, ...], Tile | None] = {}


def choose(
    gpu: Gpu,
    kernel: str,
    x: Tensor,
    out_features: int,
    precision: str,
    offer: Callable[[], Sequence[Tile | None]],
    launch: Launch,
) -> Tile | None:
    """Return the fastest tile for a product of x (rows, in) with a weight (out_features, in), measured before or now.

    Args:
        precision: how products of float32 are computed, "ieee" or "tf32".
        offer: returns the tiles that fit the GPU, the most promising first.
        launch: computes the product with a tile.
    """
    rows, width = x.shape
    key = gpu.name, kernel, x.dtype, precision, power_of_2(rows), out_features, width
    if key in _chosen:  # every call of a layer passes here
        return _chosen[key]
    dtype = "tf32" if precision == "tf32" else str(x.dtype).removeprefix("torch.")
    problem = Problem(kernel, dtype, power_of_2(rows), out_features, width)
    tiles, known = offer(), _known(gpu.name)
    if problem in known and known[problem] in tiles:
        _chosen[key] = known[problem]
    elif torch.cuda.is_current_stream_capturing():
        return tiles[0]
    else:
        _chosen[key] = _measure(gpu, problem, tiles, launch)
    return _chosen[key]


def cache_path() -> Path:
    """Return the file that keeps measured tiles."""
    return folder() / "tiles.csv"


def read(path: Path) -> Iterator[Measured]:
    """Yield the readable lines of a table of tiles; of two lines with the same problem, the later counts."""
    try:
        with open_table(path) as file:
            lines = list(csv.DictReader(file, COLUMNS))
    except (OSError, UnicodeDecodeError, csv.Error):  # a missing or damaged cache counts as empty
        return
    for line in lines:
        try:
            tile = [int(line[f"tile_{field.name}"] or 0) for field in fields(Tile)]
            problem = Problem(line["kernel"], line["dtype"], *(int(line[name]) for name in ("rows", "out", "width")))
            times = float(line["microseconds"]), float(line["first_microseconds"])
        except (TypeError, ValueError):  # the header, or a truncated line
            continue
        yield Measured(line["gpu"], problem, Tile(*tile) if any(tile) else None, *times)


def write(rows: Iterable[Measured], path: Path, mode: str = "w") -> None:
    """Write a table of tiles, or append to it with mode "a"; each line is written in one piece."""
    with open_table(path, mode) as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        for row in rows:
            tile = astuple(row.tile) if row.tile else [""] * len(fields(Tile))
            times = f"{row.microseconds:.2f}", f"{row.first_microseconds:.2f}"
            writer.writerow([row.gpu, *astuple(row.problem), *tile, *times])


@cache
def _known(gpu: str) -> dict[Problem, Tile | None]:
    rows = (row for path in (cache_path(), SHIPPED) for row in read(path))
    return {row.problem: row.tile for row in rows if row.gpu == gpu}


def _measure(gpu: Gpu, problem: Problem, tiles: Sequence[Tile | None], launch: Launch) -> Tile | None:
    """Time every tile, and keep and return the fastest; without spare memory on the GPU, return the first."""
    try:
        times = [_microseconds(tile, launch) for tile in tiles]
    except torch.OutOfMemoryError:
        return tiles[0]
    best = min(range(len(tiles)), key=times.__getitem__)
    path = cache_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write([Measured(gpu.name, problem, tiles[best], times[best], times[0])], path, "a")
    except OSError:  # the cache cannot be written, so the next process measures again
        pass
    return tiles[best]


def _microseconds(tile: Tile | None, launch: Launch) -> float:
    """Return the time of a launch on the current GPU; infinity if the tile does not compile or needs too much memory."""
    try:
        launch(tile)
    except torch.OutOfMemoryError:
        raise
    except (triton.runtime.errors.TritonError, RuntimeError):  # RuntimeError comes from passes of the compiler
        return float("inf")
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(QUEUED)
    begin.record()
    for _ in range(LAUNCHES):
        launch(tile)
    end.record()
    end.synchronize()
    return float(1e3 * begin.elapsed_time(end) / LAUNCHES)
