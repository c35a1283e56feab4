"""Which ideas would make calibrated files of a small SAM smaller at equal masks.

Each idea is coded at several levels outside the format (see `tools.bench.coders.ideas`). Compare its masks with those of the
row "as bhk" at equal bytes. Another model:

    python -m tools.bench next_bits --model held_out_sam --checkpoint other_sam.safetensors
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace

import bhk
from tools.bench import demo_sam
from tools.bench.coders.ideas import Idea, write_evidence, write_evidence_of_coded
from tools.bench.frame.benchmark import Option, Run
from tools.bench.models.mask_fidelity import prepare

PICTURES = 8
LEVELS_DB = (0.0, -2.0)


def cases(run: Run) -> Iterator[Idea]:
    checkpoint = prepare(run)
    evidence, again = run.folder / "evidence.safetensors", run.folder / "again.safetensors"
    calibration = bhk.Calibration("dead-leaves", limit=1 if run.quick else PICTURES)
    write_evidence(checkpoint, calibration, evidence)
    as_bhk = Idea(evidence)
    ideas = [
        as_bhk,
        replace(as_bhk, idea="point in the middle", offset=0.0),
        replace(as_bhk, idea="dead zone of 0.05 steps", offset=0.0, dead_zone=0.05),
        replace(as_bhk, idea="steps by row", offset=0.0, rows=0.5),
        replace(as_bhk, idea="steps by column", columns=0.5),
        replace(as_bhk, idea="steps by row and column", offset=0.0, rows=0.5, columns=0.5),
        replace(as_bhk, idea="trellis", trellis=True),
    ]
    for level_db in LEVELS_DB[: 1 if run.quick else None]:
        yield from (replace(idea, level_db=level_db) for idea in (ideas[:1] if run.quick else ideas))
    if not run.quick:
        write_evidence_of_coded(checkpoint, calibration, evidence, as_bhk, again)
        yield from (Idea(again, level_db, idea="inputs of the coded model") for level_db in LEVELS_DB)


BENCHMARK = dataclasses.replace(
    demo_sam.BENCHMARK,
    cases=cases,
    csv="next_bits_{model}",
    shown="setting ratio box_iou point_iou box_iou_p01",
    options={"model": Option("demo_sam", "name of the model in the CSV file's name"), **demo_sam.BENCHMARK.options},
    figure=None,
)
