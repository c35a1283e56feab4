"""Which ideas would make calibrated files of a small SAM smaller at equal masks.

Each idea is coded outside the format (see `tools.bench.coders.ideas`), and what bhk does at two levels, which give the bytes
that bhk would need for the same masks. Another model:

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
COARSER_DB = -2.0  # two levels of "as bhk" give the line that the others are compared with


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
    if run.quick:
        yield as_bhk
        return
    yield from ideas
    yield replace(as_bhk, level_db=COARSER_DB)
    write_evidence_of_coded(checkpoint, calibration, evidence, as_bhk, again)
    yield Idea(again, idea="inputs of the coded model")


BENCHMARK = dataclasses.replace(
    demo_sam.BENCHMARK,
    cases=cases,
    csv="next_bits_{model}",
    shown="setting ratio box_iou point_iou box_iou_p01",
    options={"model": Option("demo_sam", "name of the model in the CSV file's name"), **demo_sam.BENCHMARK.options},
    figure=None,
)
