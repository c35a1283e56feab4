"""Write procedural scenes as a data set with COCO, LVIS v1 or SA-1B annotations, and a detector's boxes.

    python -m tools.scene_set OUT --scenes N --format coco|lvis|sa1b [--size 256] [--first 0]

OUT gets the pictures as PNG files in `images/`, `annotations.json` and `detections.json`. SA-1B has neither categories nor
detections; there, each picture has a JSON file beside it. Scenes have no classes, so an object's category is its size. Objects
come as compressed RLE, as plain RLE, and as a polygon if one describes the mask exactly (COCO, LVIS); some are crowds (COCO).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bhk.evaluation.annotations.segmentation import encode
from bhk.pictures import rle
from bhk.pictures.masks import bounding_box
from bhk.pictures.scenes import HELD_OUT, Scene, make_scene

FORMATS = ("coco", "lvis", "sa1b")
CATEGORIES = (("small", "r", 0.03), ("medium", "c", 0.09), ("large", "f", 1.0))  # name, frequency, share of the picture

_CROWD = 7  # every seventh object is a crowd
_FALSE = 0.2  # false detections for each object

Mask = NDArray[np.bool_]
Json = dict[str, Any]


def write_scene_set(out: Path, *, scenes: int, format: str, size: int = 256, first: int = 0) -> None:
    """Write a set of scenes.

    Args:
        out: the folder, which is created if it does not exist.
        scenes: number of pictures.
        format: one of `FORMATS`.
        size: side of the pictures in pixels.
        first: number of the first held-out scene.
    """
    pictures = out / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    images, annotations, detections = [], [], []
    for number in range(first, first + scenes):
        scene = make_scene(HELD_OUT + number, size)
        name = f"scene_{number:06d}.png"
        Image.fromarray(scene.picture).save(pictures / name)
        objects = [_object(scene, number, index, format) for index in range(len(scene.masks))]
        image = _image(number, name, size, format)
        images.append(image)
        annotations += objects
        detections += _detections(objects, number, size)
        if format == "sa1b":
            _write((pictures / name).with_suffix(".json"), {"image": image, "annotations": objects})
    if format != "sa1b":
        categories = [
            {"id": index, "name": kind, "frequency": frequency}
            for index, (kind, frequency, _) in enumerate(CATEGORIES, 1)
        ]
        _write(
            out / "annotations.json",
            {"info": {}, "images": images, "annotations": annotations, "categories": categories},
        )
        _write(out / "detections.json", detections)


def _image(number: int, name: str, size: int, format: str) -> Json:
    image: Json = {"width": size, "height": size}
    if format == "sa1b":
        return {"image_id": number, "file_name": name, **image}
    if format == "lvis":
        address = f"http://images.example.org/images/{name}"
        return {"id": number, "coco_url": address, "neg_category_ids": [], "not_exhaustive_category_ids": [1], **image}
    return {"id": number, "file_name": name, **image}


def _object(scene: Scene, number: int, index: int, format: str) -> Json:
    mask = scene.masks[index]
    area = int(mask.sum())
    x0, y0, x1, y1 = bounding_box(mask)
    common: Json = {"id": 1000 * number + index, "area": area, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    if format == "sa1b":
        return common | {
            "segmentation": encode(mask).plain(),
            "predicted_iou": 1.0,
            "stability_score": 1.0,
            "crop_box": [0, 0, *mask.shape],
            "point_coords": [[x0, y0]],
        }
    share = area / mask.size
    category = next(place for place, (_, _, most) in enumerate(CATEGORIES, 1) if share <= most)
    crowd = format == "coco" and (number + index) % _CROWD == _CROWD - 1
    compact = outline(mask)
    if crowd or index % 3 == 1:
        segmentation: object = rle.encode(mask)
    else:
        segmentation = [compact] if compact and index % 3 == 0 else encode(mask).plain()
    return common | {
        "image_id": number,
        "category_id": category,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
    }


def outline(mask: Mask) -> list[float]:
    """Return a mask as one polygon x, y, x, y, …, down its left edge and up its right edge.

    The list is empty if one polygon cannot describe the mask, because a row has a gap, or a row between others is empty.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask.argmax(axis=1)[rows]
    right = mask.shape[1] - mask[:, ::-1].argmax(axis=1)[rows]
    if (right - left != mask[rows].sum(axis=1)).any() or (np.diff(rows) != 1).any():
        return []
    down = [(float(x), float(y)) for x, row in zip(left, rows, strict=True) for y in (row, row + 1)]
    up = [(float(x), float(y)) for x, row in zip(right[::-1], rows[::-1], strict=True) for y in (row + 1, row)]
    return [value for point in down + up for value in point]


def _detections(objects: list[Json], number: int, size: int) -> list[Json]:
    """Return boxes as a detector finds them: jittered, and some of them false."""
    if not objects or "category_id" not in objects[0]:
        return []
    rng = np.random.default_rng((HELD_OUT + number, size))
    found = []
    for entry in objects:
        jitter = rng.normal(0, 0.04, 4) * np.tile(entry["bbox"][2:], 2)
        found.append((entry["category_id"], np.add(entry["bbox"], jitter), rng.uniform(0.4, 1)))
        if rng.random() < _FALSE:
            corner, sides = rng.uniform(0, 0.7, 2) * size, rng.uniform(0.1, 0.3, 2) * size
            found.append((int(rng.integers(1, 4)), np.concatenate([corner, sides]), rng.uniform(0, 0.6)))
    return [
        {
            "image_id": number,
            "category_id": category,
            "bbox": np.round(box, 2).tolist(),
            "score": round(float(score), 4),
        }
        for category, box, score in found
    ]


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--format", choices=FORMATS, default="coco")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--first", type=int, default=0, help="number of the first held-out scene")
    arguments = parser.parse_args()
    write_scene_set(
        arguments.out, scenes=arguments.scenes, format=arguments.format, size=arguments.size, first=arguments.first
    )


if __name__ == "__main__":
    main()
