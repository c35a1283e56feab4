"""Draw masks of the demo model before and after compression, side by side: `python -m tools.drawings.masks` (three minutes).

Writes docs/images/masks_*.webp and, for what is said beside them, tools/bench/results/demo_masks.csv. The two pictures are
scenes that the model never saw; it is asked for every object by its box.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

import bhk
from bhk.pictures.masks import bounding_box, mask_iou
from bhk.pictures.overlay import draw
from bhk.pictures.scenes import HELD_OUT, Scene, make_scene
from tools.bench.frame.results import RESULTS, machine, write_csv
from tools.bench.models.mask_fidelity import float32_checkpoint
from tools.demo import CHECKPOINT
from tools.demo_pictures import SEEDS

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
PICTURES = ("meadow", "pebbles")
SIZE = 384
SHOWN = 288  # pixels
CALIBRATED = bhk.Quality(ratio=14)

Masks = NDArray[np.bool_]


def answers(model: nn.Module, scenes: list[Scene]) -> list[Masks]:
    """Return the masks (objects, height, width) of each scene, one for the box of each object."""
    return [
        bhk.segment(model, scene.picture, boxes=[bounding_box(mask) for mask in scene.masks]).masks for scene in scenes
    ]


def write_picture(name: str, scenes: list[Scene], found: list[Masks]) -> None:
    """Write the scenes with their masks, one below the other."""
    drawn = [np.asarray(draw(scene.picture, masks, ())) for scene, masks in zip(scenes, found, strict=True)]
    picture = Image.fromarray(np.concatenate(drawn)).resize((SHOWN, SHOWN * len(drawn)), Image.Resampling.LANCZOS)
    picture.save(IMAGES / f"masks_{name}.webp", quality=82, method=6)


def main() -> None:
    scenes = [make_scene(HELD_OUT + 100_000 + SEEDS[name], SIZE) for name in PICTURES]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = float32_checkpoint(CHECKPOINT, Path(folder) / "sam.safetensors")
        original = answers(bhk.load(checkpoint), scenes)
        write_picture("original", scenes, original)
        balanced = bhk.convert(checkpoint, Path(folder) / "balanced.bhk")
        calibrated = bhk.convert(checkpoint, Path(folder) / "calibrated.bhk", CALIBRATED, calibration="dead-leaves")
        rows = [{"file": "original", "bytes": balanced.source_bytes, "ratio": "1.000", "masks": "", "iou": ""}]
        for name, report in (("balanced", balanced), ("calibrated", calibrated)):
            assert report.path is not None
            found = answers(bhk.load(report.path), scenes)
            write_picture(name, scenes, found)
            pairs = [pair for masks in zip(original, found, strict=True) for pair in zip(*masks, strict=True)]
            iou = np.mean([mask_iou(*pair) for pair in pairs])
            figures = {"bytes": report.bytes, "ratio": f"{report.ratio:.3f}", "masks": len(pairs), "iou": f"{iou:.4f}"}
            rows.append({"file": name, **figures})
    print(write_csv(RESULTS / "demo_masks.csv", [row | machine(None) for row in rows]))


if __name__ == "__main__":
    main()
