"""`python -m tools.faults.load`: one file read by many at once and many times."""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

import bhk
from tools.bench.frame.memory import MIB, HostPeak, status_bytes
from tools.faults import ROOT
from tools.faults.cases import tensors

RESULTS = ROOT / "tools" / "bench" / "results" / "robustness_load.csv"
COLUMNS = ("measure", "cases", "wrong", "seconds", "peak_mib", "memory_growth_mib", "files_growth")
Row = dict[str, object]


def many_loads(file: Path, count: int = 1000) -> Row:
    """Load a file again and again; growth is that of memory, and of open and temporary files, after the first loads."""
    for _ in range(count // 10):
        bhk.load_state_dict(file)
    memory, files = status_bytes("VmRSS") or 0, _files()
    for _ in range(count):
        bhk.load_state_dict(file)
    grown = ((status_bytes("VmRSS") or 0) - memory) / MIB
    return {"cases": count, "memory_growth_mib": f"{grown:.1f}", "files_growth": _files() - files}


def _files() -> int:
    return len(os.listdir("/proc/self/fd")) + len(os.listdir(tempfile.gettempdir()))


def many_threads(file: Path, count: int = 64) -> Row:
    """Read every tensor of one open file in many threads at once, each in another order."""
    expected = bhk.load_state_dict(file)
    names = list(expected)
    with bhk.open(file) as opened, ThreadPoolExecutor(count) as pool:

        def wrong(start: int) -> int:
            order = names[start % len(names) :] + names[: start % len(names)]
            return sum(not torch.equal(opened.tensor(name), expected[name]) for name in order)

        return {"cases": count, "wrong": sum(pool.map(wrong, range(count)))}


def many_processes(file: Path, count: int = 16) -> Row:
    """Load one file in many processes at once."""
    expected = bhk.load_state_dict(file)
    with get_context("spawn").Pool(count) as pool:
        found = pool.map(_sums, [file] * count)
    return {"cases": count, "wrong": sum(sums != _sums_of(expected) for sums in found)}


def _sums(file: Path) -> dict[str, float]:
    return _sums_of(bhk.load_state_dict(file))


def _sums_of(found: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(tensor.double().sum()) for name, tensor in found.items()}


MEASURES: tuple[Callable[[Path], Row], ...] = (many_loads, many_threads, many_processes)


def measured() -> Iterator[Row]:
    """Yield a line for each measure."""
    with tempfile.TemporaryDirectory() as folder:
        source, file = Path(folder, "a.pth"), Path(folder, "a.bhk")
        torch.save(tensors(), source)
        bhk.convert(source, file)
        for measure in MEASURES:
            peak, began = HostPeak(), time.perf_counter()
            row = measure(file)
            seconds, most = time.perf_counter() - began, peak.mib
            common = {"measure": measure.__name__.replace("_", " "), "seconds": f"{seconds:.1f}"}
            yield common | row | ({} if most is None else {"peak_mib": f"{max(most, 0):.0f}"})


def main() -> None:
    """Measure, and write the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="The CSV file to write.")
    given = parser.parse_args()
    with given.out.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in measured():
            table.writerow(row)
            file.flush()
            print(row, flush=True)


if __name__ == "__main__":
    main()
