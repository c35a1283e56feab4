"""Time and memory of converting, loading and inspecting checkpoints of true size, beside safetensors and zstd.

Every run is a fresh process with the page cache warm and the output forced to the disk; "seconds" is the median over `runs`.
MB/s counts the bytes of the uncompressed checkpoint, whatever the task. Peak memory is the largest anonymous resident memory
above that of the idle process with its imports done; pages of mapped files do not count for anyone. Weights are synthetic:
this says nothing about fidelity. The largest checkpoint needs 13 GB of scratch space.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tools.bench.frame.benchmark import Benchmark, Row, Run
from tools.bench.frame.memory import MIB
from tools.bench.frame.process import Apart, apart, bhk_command, warm
from tools.bench.frame.results import version
from tools.bench.models.synthetic import make

if TYPE_CHECKING:
    from torch import Tensor

ZSTD_LEVEL = 3
ZSTD_THREADS = 2
PAGE = 4096

Work = Callable[[str, str], Iterator[None]]


def convert_bhk(source: str, target: str) -> Iterator[None]:
    import torch  # noqa: F401  (what is idle before the work does not count)

    from bhk import convert

    yield
    convert(source, target)
    yield


def convert_safetensors(source: str, target: str) -> Iterator[None]:
    import torch
    from safetensors.torch import save_file

    yield
    save_file(torch.load(source, mmap=True, weights_only=True), target)
    _sync(target)
    yield


def convert_zstd(source: str, target: str) -> Iterator[None]:
    import zstandard

    yield
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=ZSTD_THREADS)
    with open(source, "rb") as raw, open(target, "wb") as packed:
        compressor.copy_stream(raw, packed, size=Path(source).stat().st_size)
    _sync(target)
    yield


def load_bhk(source: str, _: str) -> Iterator[None]:
    import torch  # noqa: F401

    from bhk import load_state_dict

    yield
    tensors = _touch(load_state_dict(source))
    yield
    del tensors


def load_safetensors(source: str, _: str) -> Iterator[None]:
    from safetensors.torch import load_file

    yield
    tensors = _touch(load_file(source))
    yield
    del tensors


def load_zstd(source: str, _: str) -> Iterator[None]:
    import numpy as np
    import zstandard

    yield
    with open(source, "rb") as packed:
        memory = np.empty(zstandard.frame_content_size(packed.read(18)), np.uint8)
        packed.seek(0)
        zstandard.ZstdDecompressor().stream_reader(packed).readinto(memory.data)
    yield


def inspect_bhk(source: str, _: str) -> Iterator[None]:
    from bhk import inspect

    inspect(source)  # a first call also reads modules, which would count as bytes of the file
    yield
    inspect(source)
    yield


def _touch(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read one value in every page, so that a mapped file is really loaded."""
    for tensor in tensors.values():
        tensor.view(-1)[:: PAGE // tensor.element_size()].sum()
    return tensors


def _sync(path: str) -> None:
    """Force a file to the disk, as bhk does with every file it writes."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Tool:
    """A way to store a checkpoint, and what to know about its figures."""

    package: str
    suffix: str
    convert: Work
    load: Work
    convert_note: str
    load_note: str


TOOLS = {
    "bhk": Tool(
        "bhk",
        ".bhk",
        convert_bhk,
        load_bhk,
        "preset balanced, from .pth",
        "load_state_dict, all hashes checked",
    ),
    "safetensors": Tool(
        "safetensors",
        ".safetensors",
        convert_safetensors,
        load_safetensors,
        "lossless copy: torch.load(mmap=True), save_file",
        "load_file, every page touched; tensors stay in the mapped file, no hash is checked",
    ),
    "zstd": Tool(
        "zstandard",
        ".zst",
        convert_zstd,
        load_zstd,
        f"lossless, whole file, level {ZSTD_LEVEL}, {ZSTD_THREADS} threads",
        "one thread, into memory; the .pth is not parsed",
    ),
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
    return [
        Checkpoint("SAM-B", "sam_vit_b", runs=3),
        Checkpoint("SAM-H", "sam_vit_h"),
        Checkpoint("4 GB", "sam_vit_h", 4_000_000_000),
    ]


def measure(checkpoint: Checkpoint, run: Run) -> Iterator[Row]:
    """Make the checkpoint, and yield the rows of all tasks on it."""
    source = run.folder / "checkpoint.pth"
    make(checkpoint.variant, source, checkpoint.nbytes)
    size = source.stat().st_size
    row = partial(_row, checkpoint.label, size)
    for name, tool in TOOLS.items():
        packed = source.with_suffix(tool.suffix)
        found = []
        for _ in range(checkpoint.runs):
            packed.unlink(missing_ok=True)
            found.append(apart(tool.convert, warm(source), packed))
        yield row("convert", name, found, size) | {"output_bytes": packed.stat().st_size, "note": tool.convert_note}
    for name, tool in TOOLS.items():
        packed = source.with_suffix(tool.suffix)
        found = [apart(tool.load, warm(packed), "") for _ in range(checkpoint.runs)]
        yield row("load", name, found, packed.stat().st_size) | {"output_bytes": size, "note": tool.load_note}
    packed = source.with_suffix(".bhk")
    seconds = [bhk_command("inspect", packed).seconds for _ in range(checkpoint.runs + 1)]
    found = [apart(inspect_bhk, packed, "")]
    note = f"seconds: the whole command `bhk inspect`; it reads {found[0].stages[0].read:,} bytes of the file"
    command = {"seconds": f"{statistics.median(seconds):.3f}", "mb_per_second": "", "runs": len(seconds), "note": note}
    yield row("inspect", "bhk", found, packed.stat().st_size) | command


def _row(label: str, size: int, task: str, tool: str, found: list[Apart], input_bytes: int) -> Row:
    """Return the row of a task that was run in processes of their own, without output bytes and note."""
    seconds = statistics.median(process.stages[0].seconds for process in found)
    return {
        "task": task,
        "tool": tool,
        "checkpoint": label,
        "input_bytes": input_bytes,
        "seconds": f"{seconds:.3f}",
        "mb_per_second": f"{size / seconds / 1e6:.0f}",
        "peak_anon_mib": f"{max(process.anonymous_peak for process in found) / MIB:.0f}",
        "runs": len(found),
        "version": version(TOOLS[tool].package),
    }


BENCHMARK = Benchmark(
    cases,
    measure,
    case="task tool checkpoint",
    figures="input_bytes output_bytes seconds mb_per_second peak_anon_mib runs note version",
    csv="conversion",
    shown="task tool checkpoint input_bytes output_bytes seconds mb_per_second peak_anon_mib",
)
