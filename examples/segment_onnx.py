"""Segment an object with the ONNX files of a model, without torch: needs only onnxruntime, numpy and pillow.

    bhk export sam_b.bhk --format onnx -o sam_b_onnx
    python examples/segment_onnx.py sam_b_onnx photo.jpg --point 500,375 --out mask.png

It works with SAM, SAM-HQ, MobileSAM and SAM 2, which it tells apart by the inputs of their encoders.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)  # of SAM 2


class OnnxSam:
    """A model that segments one picture at a time."""

    def __init__(self, folder: Path) -> None:
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / f"{part}.onnx", providers=["CPUExecutionProvider"])
            for part in ("encoder", "decoder")
        )
        self.is_sam2 = self.encoder.get_inputs()[0].name == "image"
        self.mask_side = next(each.shape[2] for each in self.decoder.get_inputs() if each.name == "mask_input")
        self.side = int(self.encoder.get_modelmeta().custom_metadata_map["image_size"])  # of what the encoder sees

    def set_image(self, picture: Image.Image) -> None:
        """Encode a picture."""
        width, height = picture.size
        self.size = height, width
        if self.is_sam2:
            bands = [np.asarray(band, np.float32) / 255 for band in picture.convert("RGB").split()]
            scaled = np.stack([resized(band, (self.side, self.side)) for band in bands], -1)
            inputs = {"image": ((scaled - MEAN) / DEVIATION).transpose(2, 0, 1)[None]}
            self.scale = np.array([self.side / width, self.side / height], np.float32)
        else:
            ratio = self.side / max(self.size)
            new = int(width * ratio + 0.5), int(height * ratio + 0.5)
            scaled = picture.convert("RGB").resize(new, Image.Resampling.BILINEAR)
            inputs = {"input_image": np.asarray(scaled, np.float32)}
            self.scale = np.array([new[0] / width, new[1] / height], np.float32)
        names = [tensor.name for tensor in self.encoder.get_outputs()]
        self.features = dict(zip(names, self.encoder.run(None, inputs), strict=True))

    def predict(
        self, points: Sequence[Sequence[float]], labels: Sequence[int], box: Sequence[float] | None = None
    ) -> tuple[Any, Any]:
        """Return masks, bool (n, height, width), and predicted IoUs (n,): first for a clear prompt, then for an unclear one.

        Args:
            points: (x, y) in pixels of the picture.
            labels: of each point: 1 on the object, 0 outside.
            box: (x0, y0, x1, y1) around the object.
        """
        if box is not None:
            points, labels = [*points, box[:2], box[2:]], [*labels, 2, 3]
        elif not self.is_sam2:  # which adds it itself
            points, labels = [*points, (0, 0)], [*labels, -1]
        inputs = {
            **self.features,
            "point_coords": np.array([points], np.float32) * self.scale,
            "point_labels": np.array([labels], np.float32),
            "mask_input": np.zeros((1, 1, self.mask_side, self.mask_side), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
        }
        if self.is_sam2:
            masks, scores = self.decoder.run(None, inputs)
            return np.stack([resized(mask, self.size) > 0 for mask in masks[0]]), scores[0]
        masks, scores, _ = self.decoder.run(None, {**inputs, "orig_im_size": np.array(self.size, np.float32)})
        return masks[0] > 0, scores[0]


def resized(values: Any, size: tuple[int, int]) -> Any:
    """Return float32 values (height, width) scaled to another height and width."""
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))


def numbers(text: str) -> list[float]:
    """Parse "500,375"."""
    return [float(part) for part in text.split(",")]


def main(arguments: list[str] | None = None) -> None:
    """Segment one object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--point", type=numbers, action="append", default=[])
    parser.add_argument("--box", type=numbers)
    parser.add_argument("--out", type=Path, default=Path("mask.png"))
    asked = parser.parse_args(arguments)
    if not asked.point and not asked.box:
        parser.error("give --point or --box")
    model = OnnxSam(asked.folder)
    model.set_image(ImageOps.exif_transpose(Image.open(asked.picture)))
    masks, scores = model.predict(asked.point, [1] * len(asked.point), asked.box)
    best = 0 if asked.box or len(asked.point) > 1 else 1 + int(scores[1:].argmax())
    Image.fromarray(masks[best]).save(asked.out)
    print(f"{asked.out}: {masks[best].sum()} pixels, predicted IoU {scores[best]:.3f}")


if __name__ == "__main__":
    main()
