"""Measure work in a fresh process, so that nothing done before counts.

The work is a generator function of a module. Up to its first `yield` it imports and prepares; then the clock starts, and each
further `yield` ends a stage:

    def load(path: str) -> Iterator[None]:
        from safetensors.torch import load_file

        yield
        tensors = load_file(path)
        yield

    apart(load, path).stages[0].seconds
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bench.frame.memory import MIB, HostPeak, status_bytes
from tools.bench.frame.results import ROOT

SAMPLE_SECONDS = 0.02


class ProcessError(Exception):
    """The process failed, or was stopped because it took too long."""


@dataclass(frozen=True)
class Stage:
    """What was measured from the start of the clock to the end of a stage.

    Attributes:
        read: bytes that were read by read(); mapped files do not count.
        host_peak_mib: growth of the resident memory at most, mapped files included; None if the system does not tell.
        gpu_mib: held on the GPU by torch at the end; None without a GPU.
        gpu_peak_mib: the same at most.
    """

    seconds: float
    read: int
    host_peak_mib: float | None
    gpu_mib: float | None = None
    gpu_peak_mib: float | None = None


@dataclass(frozen=True)
class Apart:
    """What `apart` measured.

    Attributes:
        anonymous_peak: the most bytes of anonymous memory beyond those when the clock started, sampled every 20 ms.
        seconds: from starting the process to the end of the last stage, with its imports.
    """

    stages: list[Stage]
    anonymous_peak: int
    seconds: float


def apart(work: Callable[..., Iterator[None]], *arguments: object, longest: float = 3600) -> Apart:
    """Run a generator function in a fresh process.

    Args:
        arguments: passed as text.
        longest: seconds after which the process is stopped.

    Raises:
        ProcessError: the process failed or took too long.
    """
    name = f"{work.__module__}:{work.__qualname__}"
    command = [sys.executable, "-m", "tools.bench.frame.process", name, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, cwd=ROOT, stderr=said, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stopper = threading.Timer(longest, process.kill)
        stopper.start()
        is_ready = process.stdout.readline() == "ready\n"
        with _Sampler(process.pid) as sampler:
            if is_ready:
                process.stdin.write("go\n")
                process.stdin.flush()
            answer = process.stdout.readline()
            seconds = time.perf_counter() - begin
        is_late = not stopper.is_alive()
        stopper.cancel()
        process.wait()
        if not answer:
            said.seek(0)
            lines = said.read().strip().splitlines() or ["it said nothing"]
            raise ProcessError(f"stopped after {longest:.0f} s" if is_late else lines[-1][:200])
    return Apart([Stage(**stage) for stage in json.loads(answer)], sampler.peak, seconds)


class _Sampler(threading.Thread):
    """Samples the anonymous memory of a process; `peak` is the most above the first sample, in bytes."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process, self._done, self.peak = process, threading.Event(), 0
        self._idle = status_bytes("RssAnon", process) or 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, (status_bytes("RssAnon", self._process) or 0) - self._idle)
            if self._done.wait(SAMPLE_SECONDS):
                return

    def __enter__(self) -> _Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()


@dataclass(frozen=True)
class Command:
    """A run of `bhk` on the command line; `peak_mib` is its largest resident set, mapped files included."""

    seconds: float
    peak_mib: float
    output: str


def bhk_command(*arguments: object) -> Command:
    """Run `bhk` as a user does, in a fresh process."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "bhk", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ProcessError(f"bhk {arguments[0]} failed: see the message above")
    return Command(time.perf_counter() - begin, usage.ru_maxrss / 1024, output)


def warm(path: Path) -> Path:
    """Read a file, so that it lies in the page cache; return its path."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    return path


def _bytes_read() -> int:
    try:
        return int(Path("/proc/self/io").read_text().split()[1])
    except OSError:  # not Linux
        return 0


def _gpu() -> tuple[float, float] | tuple[None, None]:
    """Return the MiB that torch holds on the GPU, and held at most; wait until the GPU is done."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None, None
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated() / MIB, torch.cuda.max_memory_allocated() / MIB


def main() -> None:
    name, *arguments = sys.argv[1:]
    module, _, function = name.partition(":")
    work = getattr(importlib.import_module(module), function)(*arguments)
    next(work)
    print("ready", flush=True)
    sys.stdin.readline()
    stages, host = [], HostPeak()
    read, begin = _bytes_read(), time.perf_counter()
    for _ in work:
        gpu, gpu_peak = _gpu()
        seconds = time.perf_counter() - begin
        stages.append(Stage(seconds, _bytes_read() - read, host.mib, gpu, gpu_peak))
    print(json.dumps([asdict(stage) for stage in stages]), flush=True)


if __name__ == "__main__":
    main()
