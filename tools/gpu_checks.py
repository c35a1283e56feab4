"""All that needs a CUDA card, in one run of under nine minutes: `python -m tools.gpu_checks [--out DIR]`.

Runs the GPU tests and the benchmarks of layers and of a whole SAM, each within a time of its own, and leaves in DIR what they
printed (gpu_checks.log) and the benchmarks' CSV files. Exits with 1 if a step failed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from tools.bench.table import RESULTS, ROOT

STEPS = {
    "tests": (["-m", "pytest", "-m", "gpu", "-n", "0", "-rs"], 150),
    "layers": (["-m", "tools.bench.hyperlinear", "--device", "cuda"], 210),
    "sam": (["-m", "tools.bench.sam", "--device", "cuda", "--runs", "10"], 120),
}


def run(name: str, arguments: list[str], seconds: int, log: TextIO) -> bool:
    """Run a step, its output to the log and the terminal; return whether it succeeded in time."""
    print(f"== {name}", file=log, flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
        outcome = "done" if done.returncode == 0 else f"failed with {done.returncode}"
    except subprocess.TimeoutExpired:
        outcome = "stopped, out of time"
    line = f"{name}: {outcome} after {time.monotonic() - started:.0f} s"
    print(line, file=log, flush=True)
    print(line, flush=True)
    return outcome == "done"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_out"))
    out = parser.parse_args().out
    import torch

    if not torch.cuda.is_available():
        print("no CUDA card that torch can use: nothing was run", file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with (out / "gpu_checks.log").open("w") as log:
        print(torch.cuda.get_device_name(), f"torch {torch.__version__}", file=log, flush=True)
        passed = [run(name, arguments, seconds, log) for name, (arguments, seconds) in STEPS.items()]
    for path in RESULTS.glob("*.csv"):
        if path.stat().st_mtime >= started:
            shutil.copy(path, out)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
