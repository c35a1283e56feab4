"""Rate and accuracy on a trained Segment Anything model: the demo SAM, by bhk's settings and by its peers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from unittest import mock

import bhk
from bhk.codec.fit import PRESETS
from bhk.sam.recognise import Recognised
from tools.bench.coders.bhk import Bhk
from tools.bench.coders.peers import Coder, peers
from tools.bench.frame.results import show, write_csv
from tools.bench.models.mask_fidelity import CHECKPOINT, SCENES, SHOWN, Work, float32_checkpoint, run

NAME = "demo_sam"
# By how many dB the blocks of the image encoder, and all else, are finer than a model's ratio, in place of bhk's table by part.
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
    return Offset(setting, {"preset": "balanced"}, blocks_db=blocks_db, rest_db=rest_db)


def coders() -> Iterator[Coder]:
    yield from (Bhk(preset) for preset in PRESETS)
    yield Bhk("balanced, int8 in all layers", bhk.Quality("balanced"), compute="int8")
    yield from starmap(_offset, OFFSETS)
    yield from peers()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.demo_sam", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help=".safetensors of the demo SAM")
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"how many (default: {SCENES})")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: 2)")
    arguments = parser.parse_args()
    with float32_checkpoint(arguments.checkpoint) as checkpoint:
        rows = run(Work(checkpoint, arguments.scenes), coders(), arguments.workers)
    show(rows, SHOWN)
    print(write_csv(NAME, rows))


if __name__ == "__main__":
    main()
