"""A backend for Label Studio: a Segment Anything model from a .bhk file turns points and boxes into brush masks.

    MODEL=sam_b.bhk DEVICE=cuda label-studio-ml start label_studio

The labelling interface needs BrushLabels for the masks, and KeyPointLabels or RectangleLabels with smart="true" for the
prompts; see README.md.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any
from uuid import uuid4

import numpy as np
from label_studio_ml.model import LabelStudioMLBase
from label_studio_ml.response import ModelResponse
from label_studio_sdk.converter.brush import mask2rle
from torch import nn

import bhk

MODEL = os.environ.get("MODEL", "model.bhk")  # or user/repo, hf://user/repo/file.bhk
DEVICE = os.environ.get("DEVICE", "cpu")


@cache
def load() -> nn.Module:
    """Load the model, once in each process."""
    return bhk.load(MODEL, device=DEVICE)


class BhkSegmentAnything(LabelStudioMLBase):
    """Answers points and boxes with a mask."""

    def setup(self) -> None:
        """Tell Label Studio the model's version."""
        self.set("model_version", f"bhk {bhk.__version__}: {os.path.basename(MODEL)}")

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> ModelResponse:
        """Return masks for the marks in the first task: one mask for all points, or one for each box."""
        marks = (context or {}).get("result")
        if not marks:
            return ModelResponse(predictions=[])
        brush, image, value = self.get_first_tag_occurence("BrushLabels", "Image")
        picture = self.get_local_path(tasks[0]["data"][value], task_id=tasks[0].get("id"))
        found = bhk.segment(load(), picture, **prompts(marks))
        height, width = found.size
        common = {
            "from_name": brush,
            "to_name": image,
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "readonly": False,
        }
        label = marks[-1]["value"][marks[-1]["type"]]
        regions = []
        for mask, score in zip(found.masks, found.scores, strict=True):
            value = {"format": "rle", "rle": mask2rle(255 * mask.astype(np.uint8)), "brushlabels": label}
            regions.append(common | {"id": uuid4().hex[:10], "score": score, "value": value})
        prediction = {"result": regions, "score": min(found.scores), "model_version": str(self.get("model_version"))}
        return ModelResponse(predictions=[prediction])


def prompts(marks: list[dict[str, Any]]) -> dict[str, list[tuple[float, ...]]]:
    """Return the arguments of `bhk.segment` for marks, whose coordinates are percentages of the picture."""
    asked: dict[str, list[tuple[float, ...]]] = {"points": [], "not_points": [], "boxes": []}
    for mark in marks:
        value, width, height = mark["value"], mark["original_width"], mark["original_height"]
        if mark["type"] == "rectanglelabels":
            right, low = value["x"] + value["width"], value["y"] + value["height"]
            asked["boxes"].append(
                (part(value["x"], width), part(value["y"], height), part(right, width), part(low, height))
            )
        elif mark["type"] == "keypointlabels":
            place = min(part(value["x"], width), width - 1), min(part(value["y"], height), height - 1)
            asked["points" if mark.get("is_positive", True) else "not_points"].append(place)
    return asked


def part(percentage: float, size: int) -> float:
    """Return a percentage of a side in pixels, within the picture."""
    return min(max(percentage, 0), 100) / 100 * size
