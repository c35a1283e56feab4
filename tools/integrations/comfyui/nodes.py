"""Nodes that load a Segment Anything model from a .bhk file, and a node that segments by points and boxes.

The loaders return a SAM_MODEL that other packs understand: comfyui_segment_anything uses the module itself, and Impact Pack its
`sam_wrapper`, which moves the model to the GPU and answers prompts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import numpy as np
import torch
from torch import Tensor, nn

import bhk
from bhk.hub.download import local_file

CATEGORY = "segment anything/bhk"
FOLDER = "bhk"  # ComfyUI's name for the folders, also in extra_model_paths.yaml
DEVICES = ("auto", "gpu", "cpu")
_DEVICE = (
    list(DEVICES),
    {"tooltip": "auto: on the GPU only while it works; gpu: always (for comfyui_segment_anything); cpu: never"},
)


def register_folder() -> None:
    """Let ComfyUI list .bhk files in models/sams, and in the other folders where packs or the user keep SAM models."""
    known = folder_paths.folder_names_and_paths
    places = [place for name in (FOLDER, "sams") if name in known for place in known[name][0]]
    places.append(os.path.join(folder_paths.models_dir, "sams"))
    known[FOLDER] = (list(dict.fromkeys(places)), {".bhk"})


register_folder()


class SamWrapper:
    """The object through which Impact Pack uses a model."""

    def __init__(self, model: nn.Module, moves: bool) -> None:
        self.model = model
        self.is_auto_mode = moves

    def prepare_device(self) -> None:
        """Move the model to the GPU, unless it stays where it is."""
        if self.is_auto_mode:
            self.model.to(comfy.model_management.get_torch_device())

    def release_device(self) -> None:
        """Move the model back to the CPU, unless it stays where it is."""
        if self.is_auto_mode:
            self.model.to("cpu")

    def predict(
        self,
        image: np.ndarray,
        points: Sequence[Sequence[float]],
        plabs: Sequence[int],
        bbox: Sequence[float] | None,
        threshold: float,
    ) -> list[np.ndarray]:
        """Return masks (height, width) of one object: those whose predicted IoU is at least `threshold`, or else the best one.

        Args:
            image: uint8 (height, width, 3).
            points: x and y in pixels.
            plabs: 1 for a point on the object, 0 for one outside it.
            bbox: x0, y0, x1, y1 of a box around the object.
        """
        found = bhk.segment(
            self.model,
            image,
            points=[point for point, on in zip(points, plabs, strict=True) if on],
            not_points=[point for point, on in zip(points, plabs, strict=True) if not on],
            boxes=[] if bbox is None else [bbox],
            multimask=True,
        )
        good = [mask for mask, score in zip(found.masks, found.scores, strict=True) if score >= threshold]
        return good or [found.masks[int(np.argmax(found.scores))]]


def load_sam(path: Path, device: str) -> nn.Module:
    """Load a .bhk file as a SAM_MODEL."""
    entry = bhk.inspect(path).model
    target = comfy.model_management.get_torch_device() if device == "gpu" else "cpu"
    # On a CPU that is only where the model waits for the GPU, small layers keep their codes, too.
    sam = bhk.load(path, mode="auto" if device == "cpu" else "hyper", device=target)
    sam.model_name = (
        (entry.variant or entry.family) if entry else path.stem
    )  # comfyui_segment_anything looks here for SAM-HQ
    sam.sam_wrapper = SamWrapper(sam, moves=device == "auto")
    return sam


class LoadSam:
    """Loads a file from the folders of models."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("SAM_MODEL",), ("sam_model",)
    DESCRIPTION = (
        "A Segment Anything model from a .bhk file in models/sams; its linear layers stay compressed in memory."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model_name": (folder_paths.get_filename_list(FOLDER),), "device": _DEVICE}}

    def load(self, model_name: str, device: str) -> tuple[nn.Module]:
        path = folder_paths.get_full_path(FOLDER, model_name)
        if path is None:
            raise FileNotFoundError(
                f"{model_name} is in none of the folders for {FOLDER} models; put it into models/sams"
            )
        return (load_sam(Path(path), device),)


class LoadSamFromHub:
    """Loads a file from the Hugging Face Hub."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("SAM_MODEL",), ("sam_model",)
    DESCRIPTION = "A Segment Anything model from a repository with a .bhk file: user/repo or hf://user/repo/file.bhk."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"repository": ("STRING", {"default": "user/repo"}), "device": _DEVICE}}

    def load(self, repository: str, device: str) -> tuple[nn.Module]:
        return (load_sam(local_file(repository.strip()), device),)


class SegmentWithSam:
    """Segments objects by points and boxes."""

    CATEGORY, FUNCTION = CATEGORY, "segment"
    RETURN_TYPES, RETURN_NAMES = ("MASK", "MASK"), ("mask", "objects")
    DESCRIPTION = (
        "Points are pixels on one object (negative points: outside it), and each box is around one object. "
        "Write 10,20 30,40, or JSON as point editors write it. mask: one for each image; objects: one for each object."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        text = ("STRING", {"default": "", "multiline": True})
        names = ("points", "negative_points", "boxes")
        return {"required": {"sam_model": ("SAM_MODEL",), "image": ("IMAGE",)}, "optional": dict.fromkeys(names, text)}

    def segment(
        self, sam_model: nn.Module, image: Tensor, points: str = "", negative_points: str = "", boxes: str = ""
    ) -> tuple[Tensor, Tensor]:
        """Return float32 masks (images, height, width), and (images * objects, height, width)."""
        wrapper = getattr(sam_model, "sam_wrapper", None)  # Impact Pack's own loader sets it, too
        pixels = (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        prompts = {"points": numbers(points), "not_points": numbers(negative_points), "boxes": numbers(boxes)}
        if wrapper:
            wrapper.prepare_device()
        try:
            masks = np.stack([bhk.segment(sam_model, picture, **prompts).masks for picture in pixels])
        finally:
            if wrapper:
                wrapper.release_device()
        return torch.from_numpy(masks.any(1)).float(), torch.from_numpy(masks).flatten(0, 1).float()


def numbers(text: str) -> list[tuple[float, ...]]:
    """Return points or boxes from "10,20 30,40", [[10, 20], [30, 40]] or [{"x": 10, "y": 20}, …].

    Raises:
        ValueError: the text has none of these forms.
    """
    try:
        entries = json.loads(text) if text.lstrip().startswith("[") else [part.split(",") for part in text.split()]
        pairs = [(entry["x"], entry["y"]) if isinstance(entry, dict) else entry for entry in entries]
        return [tuple(map(float, pair)) for pair in pairs]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{text[:80]!r} is neither a list like 10,20 30,40 nor JSON like [[10, 20], [30, 40]]"
        ) from error
