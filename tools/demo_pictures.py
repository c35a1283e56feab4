"""Write the demo's pictures, scenes that the model never saw, as JPEG files: `python -m tools.demo_pictures`."""

from __future__ import annotations

from PIL import Image

from bhk.pictures.scenes import HELD_OUT, make_scene
from tools.demo import PICTURES

SEEDS = {"toys": 3, "meadow": 4, "pebbles": 12, "kites": 14}  # beyond HELD_OUT + 100,000; chosen for their looks


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, seed in SEEDS.items():
        Image.fromarray(make_scene(HELD_OUT + 100_000 + seed, 384).picture).save(PICTURES / f"{name}.jpg", quality=90)


if __name__ == "__main__":
    main()
