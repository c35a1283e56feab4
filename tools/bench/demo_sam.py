"""Ratio and accuracy of the demo SAM by bhk's settings and by other coders.

Ratio: bytes of the float32 tensors over bytes of the compressed file, everything counted. Accuracy: mIoU with the objects of
scenes that were not trained on, each asked for by its box and by its innermost point, single-mask output; the drop is in per
cent of the original's mIoU. Fidelity: IoU with the original's masks. Intervals are of 95 %, over scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from unittest import mock

import bhk
from bhk.codec.fit import PRESETS
from bhk.sam.recognise import Recognised
from tools.bench.coders.base import Coder
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.peers import peers
from tools.bench.frame.benchmark import Benchmark, Option, Run
from tools.bench.frame.plot import Figure
from tools.bench.models.mask_fidelity import FIGURES, MASKS, POINTS, measure, prepare
from tools.demo import CHECKPOINT

# By how many dB the blocks of the image encoder, and everything else, are finer than the model, instead of bhk's table by part.
OFFSETS = ((0, 0), (-3, -3), (-6, -6), (-6, 6), (-8, 4), (-9, 3), (-9, 9))


@dataclass(frozen=True)
class Offset(Bhk):
    """Preset `balanced` with two offsets for the parts of a SAM in the layout of `segment_anything`."""

    blocks_db: float = 0.0
    rest_db: float = 0.0

    def encode(self, source: Path, target: Path) -> None:
        def finer_db(recognised: Recognised, name: str) -> float:
            in_blocks = name.startswith("image_encoder.blocks.") and name.endswith(".weight")
            return self.blocks_db if in_blocks else self.rest_db

        with mock.patch.object(Recognised, "finer_db", finer_db):
            super().encode(source, target)


def _offset(blocks_db: float, rest_db: float) -> Offset:
    setting = f"balanced, blocks {blocks_db:+} dB, rest {rest_db:+} dB"
    return Offset(setting, bhk.Quality("balanced"), blocks_db=blocks_db, rest_db=rest_db)


def cases(run: Run) -> Iterator[Coder]:
    prepare(run)
    if run.quick:
        yield from (Bhk("balanced"), _offset(-6, 6), *peers(quick=True))
        return
    yield from map(Bhk, PRESETS)
    yield Bhk("balanced, int8 in all layers", bhk.Quality("balanced"), compute="int8")
    yield from starmap(_offset, OFFSETS)
    yield from peers()


BENCHMARK = Benchmark(
    cases,
    measure,
    case="coder setting",
    figures=FIGURES,
    csv="demo_sam",
    shown="coder setting ratio box_miou point_miou box_drop point_drop box_iou point_iou note",
    options={
        "checkpoint": Option(CHECKPOINT, "a small SAM, .safetensors"),
        "scenes": Option(40, "how many to show the model", quick=2),
        "workers": Option(2, "processes of one thread each"),
    },
    processes="workers",
    figure=Figure("demo SAM, 3.7 M float32 weights, scenes not trained on", (MASKS, POINTS)),
)
