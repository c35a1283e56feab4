"""Time and memory of a calibrated conversion: SAM-B with synthetic weights of the true shapes, by the command line's defaults.

The conversion is a process of its own; its memory is the largest resident set, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bench.frame.results import Row, environment, show, write_csv
from tools.bench.models.synthetic import make

NAME = "calibration_cost"
SHOWN = (
    "model",
    "pictures",
    "seconds",
    "moments_seconds",
    "sensitivity_seconds",
    "coding_seconds",
    "peak_mib",
    "ratio",
)


def measure(shapes: str, pictures: int) -> Row:
    """Convert a synthetic checkpoint of these shapes in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.pth"
        make(shapes, source)
        options = ["--calibrate", "dead-leaves", "--limit", str(pictures), "--json"]
        command = [sys.executable, "-c", "from bhk.cli.app import main; main()", "convert", str(source), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        report = json.load(process.stdout)
        _, _, usage = os.wait4(process.pid, 0)
    found = report["calibration"]
    return {
        "model": shapes,
        "pictures": pictures,
        "seconds": round(report["seconds"], 1),
        "moments_seconds": round(found["seconds"]["moments"], 1),
        "sensitivity_seconds": round(found["seconds"]["sensitivity"], 1),
        "coding_seconds": round(sum(found["coding_seconds"].values()), 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "ratio": round(report["ratio"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.calibration_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="sam_vit_b", help="as in tests/data/state_dicts (default: sam_vit_b)")
    parser.add_argument("--pictures", type=int, default=8, help="how many (default: 8)")
    arguments = parser.parse_args()
    rows = [measure(arguments.shapes, arguments.pictures) | environment()]
    show(rows, SHOWN)
    print(write_csv(NAME, rows))


if __name__ == "__main__":
    main()
