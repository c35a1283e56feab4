"""Time and memory of converting, loading and inspecting checkpoints of true size, beside safetensors and zstd.

Every measurement is a fresh process (tools/bench/conversion_tasks.py) with the page cache warm and the output forced to
the disk; "seconds" is the median over `runs`. MB/s counts the bytes of the uncompressed checkpoint, whatever the task.
Peak memory is the largest anonymous resident memory above that of the idle process with its imports done, sampled every
20 ms; pages of mapped files do not count for anyone. Weights are synthetic: this says nothing about fidelity.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tools.bench.conversion_tasks import ZSTD_LEVEL, ZSTD_THREADS
from tools.bench.frame.results import ROOT, Row, environment, require_bhk, show, version, write_csv
from tools.bench.models.synthetic import make

SAMPLE_SECONDS = 0.02
SHOWN = ("task", "tool", "checkpoint", "input_bytes", "output_bytes", "seconds", "mb_per_second", "peak_anon_mib")
TOOLS = {"bhk": ".bhk", "safetensors": ".safetensors", "zstd": ".zst"}
PACKAGES = {"bhk": "bhk", "safetensors": "safetensors", "zstd": "zstandard"}
NOTES = {
    ("convert", "bhk"): "preset balanced, from .pth",
    ("convert", "safetensors"): "lossless copy: torch.load(mmap=True), save_file",
    ("convert", "zstd"): f"lossless, whole file, level {ZSTD_LEVEL}, {ZSTD_THREADS} threads",
    ("load", "bhk"): "load_state_dict, all hashes checked",
    ("load", "safetensors"): "load_file, every page touched; tensors stay in the mapped file, no hash is checked",
    ("load", "zstd"): "one thread, into memory; the .pth is not parsed",
}


@dataclass(frozen=True)
class Checkpoint:
    """A synthetic checkpoint to measure with; `nbytes` 0 means the variant's own size."""

    label: str
    variant: str
    nbytes: int
    runs: int


CHECKPOINTS = (
    Checkpoint("SAM-B", "sam_vit_b", 0, 3),
    Checkpoint("SAM-H", "sam_vit_h", 0, 2),
    Checkpoint("4 GB", "sam_vit_h", 4_000_000_000, 2),
)


@dataclass(frozen=True)
class Sample:
    """One run of one task."""

    seconds: float
    read: int
    peak_anon: int


def run_task(task: str, tool: str, source: Path, target: Path) -> Sample:
    """Run a task in a fresh process with `source` in the page cache."""
    _warm(source)
    command = [sys.executable, "-m", "tools.bench.conversion_tasks", task, tool, str(source), str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{task} with {tool} did not start: see the message above")
        idle, peak, finished = _anonymous(process.pid), [0], threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, peak, finished))
        sampler.start()
        process.stdin.write("go\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        finished.set()
        sampler.join()
    if not answer:
        raise SystemExit(f"{task} with {tool} failed on {source.name}: see the message above")
    return Sample(**json.loads(answer), peak_anon=max(0, peak[0] - idle))


def _sample(pid: int, peak: list[int], finished: threading.Event) -> None:
    while True:
        peak[0] = max(peak[0], _anonymous(pid))
        if finished.wait(SAMPLE_SECONDS):
            return


def _anonymous(pid: int) -> int:
    """Return the anonymous resident bytes of a process, 0 once it is gone."""
    try:
        found = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def inspect_command(path: Path) -> float:
    """Return the wall time of `bhk inspect` as a user starts it."""
    script = Path(sys.executable).with_name("bhk")
    entry = [str(script)] if script.exists() else [sys.executable, "-c", "from bhk.cli.app import main; main()"]
    start = time.perf_counter()
    subprocess.run([*entry, "inspect", str(path)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(checkpoint: Checkpoint, folder: Path) -> list[Row]:
    """Make the checkpoint in `folder` and return the rows of all tasks on it."""
    source = folder / "checkpoint.pth"
    make(checkpoint.variant, source, checkpoint.nbytes)
    rows = [measure_task(task, tool, checkpoint, source) for task in ("convert", "load") for tool in TOOLS]
    return [*rows, measure_inspection(checkpoint, source)]


def measure_task(task: str, tool: str, checkpoint: Checkpoint, source: Path) -> Row:
    """Convert `source`, or load what it was converted to, `checkpoint.runs` times."""
    packed, size = source.with_suffix(TOOLS[tool]), source.stat().st_size
    read, written = (source, packed) if task == "convert" else (packed, source.with_suffix(".unused"))
    samples = []
    for _ in range(checkpoint.runs):
        written.unlink(missing_ok=True)
        samples.append(run_task(task, tool, read, written))
    figures = _figures(samples, read, size)
    figures["output_bytes"] = packed.stat().st_size if task == "convert" else size
    Console(stderr=True).print(f"{checkpoint.label}: {task} with {tool}: {figures['seconds']} s")
    return _row(task, tool, checkpoint, figures, NOTES[task, tool])


def measure_inspection(checkpoint: Checkpoint, source: Path) -> Row:
    """Time the command on the converted `source`, and count what the function behind it reads."""
    packed = source.with_suffix(TOOLS["bhk"])
    seconds = [inspect_command(packed) for _ in range(checkpoint.runs + 1)]
    sample = run_task("inspect", "bhk", packed, packed)
    figures = _figures([sample], packed, source.stat().st_size)
    figures |= {"seconds": f"{statistics.median(seconds):.3f}", "mb_per_second": "", "runs": len(seconds)}
    note = f"seconds: the whole command `bhk inspect`; it reads {sample.read:,} bytes of the file"
    return _row("inspect", "bhk", checkpoint, figures, note)


def _figures(samples: list[Sample], read: Path, checkpoint_bytes: int) -> dict[str, object]:
    seconds = statistics.median(sample.seconds for sample in samples)
    return {
        "input_bytes": read.stat().st_size,
        "output_bytes": "",
        "seconds": f"{seconds:.3f}",
        "mb_per_second": f"{checkpoint_bytes / seconds / 1e6:.0f}",
        "peak_anon_mib": f"{max(sample.peak_anon for sample in samples) / 2**20:.0f}",
        "runs": len(samples),
    }


def _row(task: str, tool: str, checkpoint: Checkpoint, figures: dict[str, object], note: str) -> Row:
    named: dict[str, object] = {"task": task, "tool": tool, "checkpoint": checkpoint.label}
    return named | figures | {"note": note, "version": version(PACKAGES[tool])} | environment()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.conversion", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--scratch", type=Path, help="where to put 13 GB of temporary files (default: the system's place)"
    )
    arguments = parser.parse_args()
    require_bhk("convert", "load_state_dict", "inspect")
    rows: list[Row] = []
    for checkpoint in CHECKPOINTS:
        folder = Path(tempfile.mkdtemp(prefix="bhk-bench-", dir=arguments.scratch))
        try:
            rows += measure(checkpoint, folder)
        finally:
            shutil.rmtree(folder)
    show(rows, SHOWN)
    print(write_csv("conversion", rows))


if __name__ == "__main__":
    main()
