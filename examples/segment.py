"""Find masks with a compressed Segment Anything model, and draw them on the picture.

    python examples/segment.py                                    # the demo model and a picture in examples/demo
    python examples/segment.py sam_vit_b.bhk photo.jpg --point 500,375
    python examples/segment.py user/repo photo.jpg --box 75,275,850,725 --box 600,100,900,400

All points are on one object. Each box is around an object of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import bhk

DEMO = Path(__file__).with_name("demo")
KITES = (
    (0, 95, 266, 257),
    (295, 0, 384, 138),
    (164, 231, 313, 359),
)  # boxes around three kites in the demo's picture


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of "x,y" or "x0,y0,x1,y1"."""
    return tuple(map(float, text.split(",")))


def segment(model: str, image: str | Path, points: Sequence, boxes: Sequence, out: Path) -> bhk.SegmentationReport:
    """Load a model, find masks, and write them as a picture and as an array."""
    sam = bhk.load(model)  # its large linear layers keep their codes
    found = bhk.segment(sam, image, points=points, boxes=boxes, out=out, force=True)
    np.save(out.with_suffix(".npy"), found.masks)  # bool (masks, height, width)
    return found


def demo_model(folder: str) -> str:
    """Convert the demo model."""
    checkpoint = DEMO / "demo_sam.safetensors"  # yours: sam_vit_b_01ec64.pth, …
    return str(bhk.convert(checkpoint, Path(folder) / "demo_sam.bhk").path)


def main(arguments: Sequence[str] | None = None) -> bhk.SegmentationReport:
    """Segment the picture given on the command line, or the demo's picture with the demo model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a .bhk file, or a repository on the Hub")
    parser.add_argument("image", nargs="?", default=DEMO / "pictures" / "kites.jpg")
    parser.add_argument("--point", type=numbers, action="append", default=[], metavar="X,Y", help="on the object")
    parser.add_argument("--box", type=numbers, action="append", default=[], metavar="X0,Y0,X1,Y1", help="around it")
    parser.add_argument("--out", type=Path, default=Path("overlay.png"))
    options = parser.parse_args(arguments)
    if options.model and not (options.point or options.box):
        parser.error("say what to look for: --point or --box")
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or demo_model(folder)
        boxes = options.box if options.model else KITES
        found = segment(model, options.image, options.point, boxes, options.out)
    for score, area, box in zip(found.scores, found.areas, found.boxes, strict=True):
        print(f"{area:7d} pixels in x0, y0, x1, y1 {box}, expected IoU {score:.3f}")
    print(f"{options.out}: the picture with its masks; {options.out.with_suffix('.npy')}: the masks")
    return found


if __name__ == "__main__":
    main()
