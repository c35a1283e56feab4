"""Time and memory of converting, loading and inspecting large checkpoints, beside safetensors and zstd.

Every run is a fresh process with the page cache warm and the output forced to the disk; "seconds" is the median over `runs`.
MB/s counts the bytes of the uncompressed checkpoint, whatever the task. Peak memory is the largest anonymous resident memory
above that of the idle process with its imports done; pages of mapped files do not count for anyone. Weights are synthetic:
this says nothing about fidelity. The largest checkpoint needs 13 GB of scratch space.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zstandard
from safetensors.torch import load_file, save_file
from torch import Tensor

from bhk import convert, inspect, load_state_dict
from tools.bench.frame.benchmark import Benchmark, Row, Run
from tools.bench.frame.memory import MIB
from tools.bench.frame.process import apart, bhk_command, warm
from tools.bench.frame.results import version
from tools.bench.models.synthetic import make

ZSTD_LEVEL = 3
ZSTD_THREADS = 2
PAGE = 4096
TOOLS = {"bhk": ("bhk", ".bhk"), "safetensors": ("safetensors", ".safetensors"), "zstd": ("zstandard", ".zst")}
NOTES = {
    "convert bhk": "preset balanced, from .pth",
    "convert safetensors": "lossless copy: torch.load(mmap=True), save_file",
    "convert zstd": f"lossless, whole file, level {ZSTD_LEVEL}, {ZSTD_THREADS} threads",
    "load bhk": "load_state_dict, all hashes checked",
    "load safetensors": "load_file, every page touched; tensors stay in the mapped file, no hash is checked",
    "load zstd": "one thread, into memory; the .pth is not parsed",
}


@dataclass(frozen=True)
class Checkpoint:
    """A synthetic checkpoint; `nbytes` 0 means the variant's own size."""

    label: str
    variant: str
    nbytes: int = 0
    runs: int = 2

    def __str__(self) -> str:
        return self.label


def cases(run: Run) -> list[Checkpoint]:
    if run.quick:
        return [Checkpoint("MobileSAM", "mobile_sam", runs=1)]
    large = Checkpoint("SAM-H", "sam_vit_h"), Checkpoint("4 GB", "sam_vit_h", 4_000_000_000)
    return [Checkpoint("SAM-B", "sam_vit_b", runs=3), *large]


def measure(checkpoint: Checkpoint, run: Run) -> Iterator[Row]:
    """Make the checkpoint, and yield the rows of all tasks on it: convert and load with each tool, inspect."""
    source = run.folder / "checkpoint.pth"
    make(checkpoint.variant, source, checkpoint.nbytes)
    size = source.stat().st_size
    for task in [*NOTES, "inspect bhk"]:
        verb, tool = task.split()
        package, suffix = TOOLS[tool]
        packed = source.with_suffix(suffix)
        read, written = (source, packed) if verb == "convert" else (packed, source)
        found = []
        for _ in range(1 if verb == "inspect" else checkpoint.runs):
            if verb == "convert":
                packed.unlink(missing_ok=True)
            found.append(apart(work, task, warm(read), written))
        seconds = [process.stages[0].seconds for process in found]
        if verb == "inspect":  # as a user starts it
            seconds = [bhk_command("inspect", packed).seconds for _ in range(checkpoint.runs + 1)]
        median = statistics.median(seconds)
        command = f"seconds: the whole command `bhk inspect`; it reads {found[0].stages[0].read:,} bytes of the file"
        yield {
            "task": verb,
            "tool": tool,
            "checkpoint": checkpoint.label,
            "input_bytes": read.stat().st_size,
            "output_bytes": "" if verb == "inspect" else written.stat().st_size,
            "seconds": f"{median:.3f}",
            "mb_per_second": "" if verb == "inspect" else f"{size / median / 1e6:.0f}",
            "peak_anon_mib": f"{max(process.anonymous_peak for process in found) / MIB:.0f}",
            "runs": len(seconds),
            "note": NOTES.get(task, command),
            "version": version(package),
        }


def work(task: str, source: str, target: str) -> Iterator[None]:
    """Do a task; run in a process of its own."""
    if task == "inspect bhk":
        inspect(source)  # a first call also reads modules, which would count as bytes of the file
    yield
    kept = TASKS[task](Path(source), Path(target))
    yield
    del kept


def _convert_safetensors(source: Path, target: Path) -> None:
    save_file(torch.load(source, mmap=True, weights_only=True), target)
    _sync(target)


def _convert_zstd(source: Path, target: Path) -> None:
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=ZSTD_THREADS)
    with source.open("rb") as raw, target.open("wb") as packed:
        compressor.copy_stream(raw, packed, size=source.stat().st_size)
    _sync(target)


def _load_zstd(source: Path, _: Path) -> object:
    with source.open("rb") as packed:
        memory = np.empty(zstandard.frame_content_size(packed.read(18)), np.uint8)
        packed.seek(0)
        zstandard.ZstdDecompressor().stream_reader(packed).readinto(memory.data)
    return memory


def _touched(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read one value in every page, so that a mapped file is really loaded."""
    for tensor in tensors.values():
        tensor.view(-1)[:: PAGE // tensor.element_size()].sum()
    return tensors


def _sync(path: Path) -> None:
    """Force a file to the disk, as bhk does with every file it writes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


TASKS = {
    "convert bhk": convert,
    "convert safetensors": _convert_safetensors,
    "convert zstd": _convert_zstd,
    "load bhk": lambda source, _: _touched(load_state_dict(source)),
    "load safetensors": lambda source, _: _touched(load_file(source)),
    "load zstd": _load_zstd,
    "inspect bhk": lambda source, _: inspect(source),
}

BENCHMARK = Benchmark(
    cases,
    measure,
    case="task tool checkpoint",
    figures="input_bytes output_bytes seconds mb_per_second peak_anon_mib runs note version",
    csv="conversion",
    shown="task tool checkpoint input_bytes output_bytes seconds mb_per_second peak_anon_mib",
)
