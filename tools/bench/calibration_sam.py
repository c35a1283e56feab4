"""Ratio and fidelity of a small SAM over the whole range, calibrated and not, beside GPTQ.

The model is calibrated with pictures made by rule; fidelity is measured with other pictures. Beside the demo SAM, on which
the presets were tuned, another one shows whether they carry over:

    python -m tools.bench calibration_sam --model held_out_sam --checkpoint other_sam.safetensors
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tools.bench import demo_sam
from tools.bench.coders.base import Coder
from tools.bench.coders.calibrated import calibrated, gptq, plain
from tools.bench.frame.benchmark import Option, Run
from tools.bench.frame.plot import Figure
from tools.bench.models.mask_fidelity import MASKS, prepare

RATIOS = (8, 10, 12, 13, 14, 15, 16)
NOISE_RATIOS = (10, 12)


def cases(run: Run) -> Iterator[Coder]:
    checkpoint = prepare(run)
    yield from plain(quick=run.quick)
    yield from calibrated(checkpoint, "dead leaves", "dead-leaves", () if run.quick else RATIOS, run.folder)
    if not run.quick:
        yield from calibrated(checkpoint, "noise", "noise", NOISE_RATIOS, run.folder)
    yield from gptq(checkpoint, "dead leaves", "dead-leaves", run.folder, quick=run.quick)


BENCHMARK = dataclasses.replace(
    demo_sam.BENCHMARK,
    cases=cases,
    csv="calibration_{model}",
    options={"model": Option("demo_sam", "name of the model in the CSV file's name"), **demo_sam.BENCHMARK.options},
    figure=Figure("a small SAM, float32, scenes not trained on", (MASKS,), curves=True),
)
