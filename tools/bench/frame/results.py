"""Result files: the machine that a row was measured on, CSV files, and a table on the terminal."""

from __future__ import annotations

import csv
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from bhk.base.tables import Column, Table
from bhk.evaluation.environment import processor_name

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "tools" / "bench" / "results"
# What decides how fast a processor multiplies small numbers, by the names that Linux gives it.
FLAGS = {"avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI", "avx512_bf16": "AVX512-BF16", "amx_tile": "AMX"}

Row = dict[str, object]


def machine(device: str | None) -> Row:
    """Return the columns that say where, with what and when a row was measured.

    Args:
        device: "cpu" or "cuda", which adds columns for it; None for what runs on the processor alone.
    """
    import torch

    common = {
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": _commit(),
    }
    if device is None:
        return common
    if device == "cpu":
        return {"device": "cpu", "capability": torch.backends.cpu.get_cpu_capability(), **common}
    import triton

    capability = "sm_{}{}".format(*torch.cuda.get_device_capability())
    versions = {"cuda": torch.version.cuda, "triton": triton.__version__}
    return {"device": torch.cuda.get_device_name(), "capability": capability, **common, **versions}


def processor() -> str:
    """Return the processor's name, its cores, and those of `FLAGS` that it has."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        text = ""
    has = re.search(r"^flags\s*: (.+)$", text, re.MULTILINE)
    flags = [name for flag, name in FLAGS.items() if has and flag in has[1].split()]
    return ", ".join([processor_name(), f"{os.cpu_count()} cores", *flags])


def device_name(device: str) -> str:
    """Return how result files call the device: "cpu", or the GPU's name in lower case and underscores."""
    import torch

    return "cpu" if device == "cpu" else re.sub(r"\W+", "_", torch.cuda.get_device_name().lower())


def _commit() -> str:
    """Return the short commit, with a + if the library's code has changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "bhk", "kernels")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def version(package: str) -> str:
    """Return "package version", or "package not installed"."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows, whose columns are those of the first, over a CSV file; return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print these columns of the rows as a table."""
    print(
        Table([Column(name, "left") for name in columns], [[str(row[name]) for name in columns] for row in rows]).text()
    )
