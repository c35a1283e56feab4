"""The process that tools.bench.conversion starts for each measurement: imports, reports ready, runs one task.

Usage: python -m tools.bench.conversion_tasks TASK TOOL SOURCE TARGET. It prints "ready" when everything is imported, waits
for a line on its standard input, and prints one JSON object: seconds, and the bytes it read with read() meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Task = Callable[[Path, Path], object]

ZSTD_LEVEL = 3
ZSTD_THREADS = 2
PAGE = 4096


def convert_bhk() -> Task:
    import torch  # noqa: F401  (idle memory is what is there before the work)

    from bhk import convert

    return lambda source, target: convert(source, target)


def convert_safetensors() -> Task:
    import torch
    from safetensors.torch import save_file

    def run(source: Path, target: Path) -> None:
        save_file(torch.load(source, mmap=True, weights_only=True), target)
        _sync(target)

    return run


def convert_zstd() -> Task:
    import zstandard

    def run(source: Path, target: Path) -> None:
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=ZSTD_THREADS)
        with source.open("rb") as raw, target.open("wb") as packed:
            compressor.copy_stream(raw, packed, size=source.stat().st_size)
        _sync(target)

    return run


def load_bhk() -> Task:
    import torch  # noqa: F401

    from bhk import load_state_dict

    return lambda source, _: _touch(load_state_dict(source))


def load_safetensors() -> Task:
    from safetensors.torch import load_file

    return lambda source, _: _touch(load_file(source))


def load_zstd() -> Task:
    import numpy as np
    import zstandard

    def run(source: Path, _: Path) -> object:
        with source.open("rb") as packed:
            memory = np.empty(zstandard.frame_content_size(packed.read(18)), np.uint8)
            packed.seek(0)
            zstandard.ZstdDecompressor().stream_reader(packed).readinto(memory.data)
        return memory

    return run


def inspect_bhk() -> Task:
    from bhk import inspect

    return lambda source, _: inspect(source)


TASKS: dict[tuple[str, str], Callable[[], Task]] = {
    ("convert", "bhk"): convert_bhk,
    ("convert", "safetensors"): convert_safetensors,
    ("convert", "zstd"): convert_zstd,
    ("load", "bhk"): load_bhk,
    ("load", "safetensors"): load_safetensors,
    ("load", "zstd"): load_zstd,
    ("inspect", "bhk"): inspect_bhk,
}


def _touch(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Read one value in every page, so that a lazily mapped file is really loaded."""
    for tensor in tensors.values():
        tensor.view(-1)[:: PAGE // tensor.element_size()].sum()
    return tensors


def _sync(path: Path) -> None:
    """Force `path` to the disk, as bhk does with every file it writes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def main() -> None:
    task, tool, source, target = sys.argv[1:]
    run = TASKS[task, tool]()
    if task == "inspect":
        run(Path(source), Path(target))  # a first call also reads modules, which would count as bytes of the file
    print("ready", flush=True)
    sys.stdin.readline()
    already_read, start = _bytes_read(), time.perf_counter()
    kept = run(Path(source), Path(target))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "read": _bytes_read() - already_read}), flush=True)
    del kept


if __name__ == "__main__":
    main()
