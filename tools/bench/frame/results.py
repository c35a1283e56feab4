"""What all benchmarks share: where a run took place, the result files, timing, and a table on the terminal."""

from __future__ import annotations

import csv
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "tools" / "bench" / "results"

Row = Mapping[str, object]


def environment() -> dict[str, object]:
    """Return the columns that say where, with what and when a row was measured."""
    import torch

    return {
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": _commit(),
    }


def device_columns(device: str) -> dict[str, object]:
    """Return the columns that say on what a row was measured: the device ("cpu" or "cuda") and `environment()`."""
    import torch

    if device == "cpu":
        return {"device": "cpu", "capability": torch.backends.cpu.get_cpu_capability(), **environment()}
    import triton

    capability = "sm_{}{}".format(*torch.cuda.get_device_capability())
    versions = {"cuda": torch.version.cuda, "triton": triton.__version__}
    return {"device": torch.cuda.get_device_name(), "capability": capability, **environment(), **versions}


def device_name(device: str) -> str:
    """Return how files of results call the device: "cpu" or, in lower case and underscores, the name of the card."""
    import torch

    return "cpu" if device == "cpu" else re.sub(r"\W+", "_", torch.cuda.get_device_name().lower())


def _commit() -> str:
    """Return the short commit, followed by + where the code it names has been changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "bhk") else "")


def version(package: str) -> str:
    """Return "package version", or "package not installed"."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"


def require_bhk(*names: str) -> None:
    """Exit with a sentence if the bhk at hand lacks one of these functions."""
    import bhk

    if missing := [name for name in names if not hasattr(bhk, name)]:
        raise SystemExit(
            f"{bhk.__file__} has no {', '.join(missing)}: run pip install -e '.[dev,bench]' in this checkout"
        )


def median_seconds(function: Callable[[], object], runs: int = 3, enough: float = 10.0) -> float:
    """Return the median wall time of up to `runs` calls; no further call starts once `enough` seconds are spent."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < runs and sum(seconds) < enough):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def write_csv(name: str, rows: Sequence[Row]) -> Path:
    """Write `rows`, which share their columns, over results/NAME.csv and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print these columns of `rows` as a table."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console().print(table)
