"""Time and memory of a calibrated conversion, by the defaults of the command line.

The checkpoint has the true shapes and synthetic weights. The conversion is a process of its own; its memory is the largest
resident set, mapped files included.
"""

from __future__ import annotations

import json

from tools.bench.frame.benchmark import Benchmark, Option, Rows, Run
from tools.bench.frame.process import bhk_command
from tools.bench.models.synthetic import DEMO, make


def measure(shapes: str, run: Run) -> Rows:
    source = run.folder / "model.pth"
    make(shapes, source)
    ended = bhk_command("convert", source, "--calibrate", "dead-leaves", "--limit", run["images"], "--json")
    report = json.loads(ended.output)
    found = report["calibration"]
    seconds = {**found["seconds"], "coding": sum(found["coding_seconds"].values())}
    return [
        {
            "model": shapes,
            "pictures": run["images"],
            "seconds": f"{report['seconds']:.1f}",
            **{f"{part}_seconds": f"{seconds[part]:.1f}" for part in ("moments", "sensitivity", "coding")},
            "peak_mib": f"{ended.peak_mib:.0f}",
            "ratio": f"{report['ratio']:.3f}",
        }
    ]


BENCHMARK = Benchmark(
    lambda run: [run["shapes"]],
    measure,
    case="model pictures",
    figures="seconds moments_seconds sensitivity_seconds coding_seconds peak_mib ratio",
    csv="calibration_cost",
    options={
        "shapes": Option("sam_vit_b", "a model in tests/data/state_dicts, or demo_sam", quick=DEMO),
        "images": Option(8, "how many pictures to calibrate with", quick=1),
    },
)
