"""Which way to multiply exactly is faster on this processor: measured once, and kept.

The first product of many rows measures how long both ways take for a typical one (about a tenth of a second) and appends both
times to products.csv in bhk's cache folder, if no other work disturbed it. The result decides for all layers, in
this process and, if it was kept, in later ones.
"""

from __future__ import annotations

import csv
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .kept import folder, open_table

ROUNDS = 7
STEADY = 1.5  # a median of more than this times the least means that other work disturbed the measurement
MARGIN = 0.9  # less is not worth other last bits
Product = Callable[[], Tensor]

_lock = threading.RLock()  # measuring one choice may need another


def is_faster(new: str, old: str, make: Callable[[], tuple[Product, Product]]) -> bool:
    """Return whether a way to multiply is clearly faster than another on this machine, as measured before or now.

    Args:
        new, old: names of the two ways.
        make: returns a product in each way, new and old.
    """
    with _lock:  # threads that ask at the same time would disturb each other's measurement
        return _is_faster(new, old, torch.get_num_threads(), make)


@cache
def _is_faster(new: str, old: str, threads: int, make: Callable[[], tuple[Product, Product]]) -> bool:
    key = (processor(), torch.__version__, str(threads), new, old)
    path = folder() / "products.csv"
    times = dict(_read(path)).get(key)
    if times is None:
        rounds = _measure(*make())
        times = tuple(map(min, rounds))
        if all(statistics.median(found) <= STEADY * min(found) for found in rounds):
            _append(path, [*key, *(f"{1e6 * seconds:.0f}" for seconds in times)])
    return times[0] < MARGIN * times[1]


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _read(path: Path) -> Iterator[tuple[tuple[str, ...], tuple[float, ...]]]:
    """Yield the readable lines of products.csv: key, and microseconds."""
    try:
        with open_table(path) as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error):  # a missing or damaged cache counts as empty
        return
    for line in lines:
        try:
            *key, new, old = line
            yield tuple(key), (float(new), float(old))
        except ValueError:  # a truncated line
            continue


def _append(path: Path, line: list[str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_table(path, "a") as file:
            csv.writer(file, lineterminator="\n").writerow(line)
    except OSError:  # the cache cannot be written, so the next process measures again
        pass


def _measure(*products: Product) -> list[tuple[float, ...]]:
    """Return the seconds of each product in each round; they take turns."""
    times = [[_seconds(product) for product in products] for _ in range(ROUNDS + 1)]
    return list(zip(*times[1:], strict=True))


def _seconds(product: Product) -> float:
    started = time.perf_counter()
    product()
    return time.perf_counter() - started
