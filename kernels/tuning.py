"""Which tile a kernel takes on a card: measured there once, for each dtype and shape, and kept.

What was measured on cards at hand ships in `tiles.csv`, with its times. On any other card the first call of a shape times the
tiles that `tiles_for` of the kernel's module offers (milliseconds each, but a second or so to compile), and appends the best
to tiles.csv in the cache of bhk: `$XDG_CACHE_HOME/bhk`, or `~/.cache/bhk`. While a CUDA graph is captured nothing is timed:
run a model once before, as torch asks for anyway.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path

import torch
import triton
from torch import Tensor

from .card import Card
from .sizes import power_of_2

SHIPPED = Path(__file__).with_name("tiles.csv")
LAUNCHES = 20
# Clock cycles that a card waits before it is timed, so that every launch lies in its queue by then: else small kernels would
# be timed by how fast they are launched. 2 ms at 2 GHz.
QUEUED = 4_000_000


@dataclass(frozen=True)
class Tile:
    """How a product is cut into programs.

    Attributes:
        rows, out: of the result, in a program.
        depth: of the input, in a round of its loop: pairs in `few_rows`, bytes in `integer`.
        splits: programs that share the input of one tile.
        warps, stages: of a program.
    """

    rows: int
    out: int
    depth: int
    splits: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Problem:
    """What a tile is chosen for.

    Attributes:
        dtype: of the activations; "tf32" where products of float32 take that.
        rows: rounded up to a power of two.
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
        tile: the fastest; None where decoding the weight and torch's product are faster than every tile.
        microseconds, first_microseconds: what it takes, and what the first tile that was offered takes.
    """

    card: str
    problem: Problem
    tile: Tile | None
    microseconds: float
    first_microseconds: float


COLUMNS = ("card", *(field.name for field in fields(Problem)), *(f"tile_{field.name}" for field in fields(Tile)))
COLUMNS += ("microseconds", "first_microseconds")

Launch = Callable[["Tile | None"], Tensor]

_chosen: dict[tuple[object, ...], Tile | None] = {}  # by card, kernel, dtype, precision, rows, outputs and width


def choose(
    card: Card,
    kernel: str,
    x: Tensor,
    out_features: int,
    precision: str,
    offer: Callable[[], Sequence[Tile | None]],
    launch: Launch,
) -> Tile | None:
    """Return the best tile for a product of x (rows, in) with a weight (out_features, in): as measured before, or now.

    Args:
        precision: of float32 products, "ieee" or "tf32".
        offer: returns the tiles that fit the card, the likeliest first.
        launch: computes the product with a tile.
    """
    rows, width = x.shape
    key = card.name, kernel, x.dtype, precision, power_of_2(rows), out_features, width
    if key in _chosen:  # each call of a layer comes by here
        return _chosen[key]
    dtype = "tf32" if precision == "tf32" else str(x.dtype).removeprefix("torch.")
    problem = Problem(kernel, dtype, power_of_2(rows), out_features, width)
    tiles, known = offer(), _known(card.name)
    if problem in known and known[problem] in tiles:
        _chosen[key] = known[problem]
    elif torch.cuda.is_current_stream_capturing():
        return tiles[0]
    else:
        _chosen[key] = _measure(card, problem, tiles, launch)
    return _chosen[key]


def cache_path() -> Path:
    """Where measured tiles are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "bhk" / "tiles.csv"


def read(path: Path) -> Iterator[Measured]:
    """Yield the lines of a table of tiles that can be read; later ones of the same problem count."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file, COLUMNS))
    except (OSError, UnicodeDecodeError, csv.Error):  # a cache that is not there or was damaged is no cache
        return
    for line in lines:
        try:
            tile = [int(line[f"tile_{field.name}"] or 0) for field in fields(Tile)]
            problem = Problem(line["kernel"], line["dtype"], *(int(line[name]) for name in ("rows", "out", "width")))
            times = float(line["microseconds"]), float(line["first_microseconds"])
        except (TypeError, ValueError):  # the header, or a line cut short
            continue
        yield Measured(line["card"], problem, Tile(*tile) if any(tile) else None, *times)


def write(rows: Iterable[Measured], path: Path, mode: str = "w") -> None:
    """Write a table of tiles, or with mode "a" append to one, each line in one piece."""
    with path.open(mode, newline="", encoding="utf-8", buffering=1) as file:
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(COLUMNS)
        for row in rows:
            tile = astuple(row.tile) if row.tile else [""] * len(fields(Tile))
            times = f"{row.microseconds:.2f}", f"{row.first_microseconds:.2f}"
            writer.writerow([row.card, *astuple(row.problem), *tile, *times])


@cache
def _known(card: str) -> dict[Problem, Tile | None]:
    rows = (row for path in (cache_path(), SHIPPED) for row in read(path))
    return {row.problem: row.tile for row in rows if row.card == card}


def _measure(card: Card, problem: Problem, tiles: Sequence[Tile | None], launch: Launch) -> Tile | None:
    """Time every tile and keep the fastest; the first if the card has no memory to spare for that."""
    try:
        times = [_microseconds(tile, launch) for tile in tiles]
    except torch.OutOfMemoryError:
        return tiles[0]
    best = min(range(len(tiles)), key=times.__getitem__)
    path = cache_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write([Measured(card.name, problem, tiles[best], times[best], times[0])], path, "a")
    except OSError:  # no place to keep it: the next process measures again
        pass
    return tiles[best]


def _microseconds(tile: Tile | None, launch: Launch) -> float:
    """Return the time of a launch on the current card; infinity if the tile does not compile, or takes more than there is."""
    try:
        launch(tile)
    except torch.OutOfMemoryError:
        raise
    except (triton.runtime.errors.TritonError, RuntimeError):  # the latter from passes of the compiler
        return float("inf")
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(QUEUED)
    begin.record()
    for _ in range(LAUNCHES):
        launch(tile)
    end.record()
    end.synchronize()
    return float(1e3 * begin.elapsed_time(end) / LAUNCHES)
