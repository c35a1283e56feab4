"""Run everything that needs a CUDA GPU: `python -m tools.gpu_checks [STEP ...] [--seconds 560] [--out DIR]`.

Without a STEP all of them run, the most important first, each within its own time and all within --seconds. DIR gets their
output (gpu_checks.log), the benchmarks' CSV files, and tiles.csv with the tiles that were measured on the way. Bring DIR back
from a borrowed machine: the CSV files belong in tools/bench/results/, and `python -m tools.keep_tiles DIR/tiles.csv` keeps the
tiles.
The exit status is 1 if a step failed.

- tests: the tests marked gpu, in every dtype
- layers, encoders, loading: the benchmarks hyperlinear, encoders and gpu_loading
- memcheck, initcheck, racecheck: compute-sanitizer over every tile and every codebook
- counters: bytes and stalls of the main kernels, counted by ncu

The last four are left out where their programs are not installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tools.bench.frame.results import RESULTS, ROOT
from tools.bench.frame.timing import Budget

SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--tool")
TESTS = ("tests/kernels", "tests/nn/test_hyperlinear.py")
SANITIZED = ("-m", "pytest", "-m", "gpu", "-n", "0", "tests/kernels/test_gpu.py", "-k")
COUNTERS = (
    *(
        "ncu",
        "--clock-control",
        "none",
        "--csv",
        "--page",
        "raw",
        "--kernel-name",
        "regex:(few_rows|sum|quantise|product|decode|outlier)_kernel",
        "--metrics",
    ),
    "gpu__time_duration.sum,dram__bytes.sum,lts__t_bytes.sum,sm__inst_executed.sum,"
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio,"
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio,"
    "sm__inst_executed_pipe_tensor.sum,launch__registers_per_thread,sm__warps_active.avg.pct_of_peak_sustained_active",
)


@dataclass(frozen=True)
class Step:
    """A part of the checks.

    Attributes:
        arguments: for Python.
        seconds: the most that it may take.
        under: a program that runs Python, with its arguments; () runs Python directly.
        variables: environment variables to set.
    """

    arguments: Sequence[str]
    seconds: float
    under: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # so that each tensor has its own memory
STEPS = {
    "tests": Step(("-m", "pytest", "-m", "gpu", "-n", "12", "-rs", *TESTS), 200),  # most of it to compile
    "layers": Step(("-m", "tools.bench", "hyperlinear", "--device", "cuda", "--seconds", "170"), 250),
    "encoders": Step(("-m", "tools.bench", "encoders", "--device", "cuda", "--seconds", "150"), 210),
    "loading": Step(("-m", "tools.bench", "gpu_loading", "--device", "cuda", "--seconds", "75"), 120),
    "memcheck": Step((*SANITIZED, "every_tile and 320 or every_codebook"), 90, (*SANITIZER, "memcheck"), UNCACHED),
    # Without the tests that poison memory, because poisoned memory counts as written.
    "initcheck": Step((*SANITIZED, "any_shape or share_their_kernels"), 60, (*SANITIZER, "initcheck"), UNCACHED),
    "racecheck": Step((*SANITIZED, "every_tile and bfloat16 and 320"), 90, (*SANITIZER, "racecheck"), UNCACHED),
    "counters": Step(("-m", "tools.bench.layers.counted"), 60, COUNTERS),
}


def run(name: str, step: Step, seconds: float, log: TextIO) -> bool:
    """Run a step and log its output; return whether it succeeded in time, or cannot run here."""
    print(f"== {name}", file=log, flush=True)
    started = time.monotonic()
    if step.under and shutil.which(step.under[0]) is None:
        outcome = f"left out, {step.under[0]} is not installed"
    else:
        outcome = _outcome([*step.under, sys.executable, *step.arguments], seconds, step.variables, log)
    line = f"{name}: {outcome} after {time.monotonic() - started:.0f} s"
    print(line, file=log, flush=True)
    print(line, flush=True)
    return outcome.startswith(("done", "left out"))


def _outcome(command: list[str], seconds: float, variables: Mapping[str, str], log: TextIO) -> str:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | variables
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and all that it started, which would load the GPU during the next step
        process.wait()
        return "stopped, out of time"
    return "done" if code == 0 else f"failed with {code}"


def check(names: Sequence[str], budget: Budget, out: Path) -> bool:
    """Run steps, and collect in `out` what they wrote; return whether all succeeded."""
    import torch

    from bhk.kernels.tuning import cache_path  # needs Triton

    out.mkdir(parents=True, exist_ok=True)
    started, passed = time.time(), []
    with (out / "gpu_checks.log").open("a") as log:
        print(torch.cuda.get_device_name(), f"torch {torch.__version__}", file=log, flush=True)
        for name in names:
            step = STEPS[name]
            if budget.left < 10:
                print(f"{name}: no time left", flush=True)
                continue
            seconds = min(step.seconds, budget.left)
            passed.append(run(name, step, seconds, log))
    results = [path for path in RESULTS.glob("*.csv") if path.stat().st_mtime >= started]
    for path in [*results, cache_path()]:
        if path.exists():
            shutil.copy(path, out)
    return all(passed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--seconds", type=float, default=560.0)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"))
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.steps if name not in STEPS]:
        parser.error(f"there is no step {unknown[0]!r}; choose from {', '.join(STEPS)}")
    import torch

    if not torch.cuda.is_available():
        print("torch finds no CUDA GPU, so nothing was run", file=sys.stderr)
        return 1
    return 0 if check(arguments.steps or list(STEPS), Budget(arguments.seconds), arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
