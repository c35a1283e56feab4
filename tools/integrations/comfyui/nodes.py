"""Nodes that load a Segment Anything model from a .bhk file, and one that asks it by points and boxes.

What the loaders give is a SAM_MODEL as other packs expect it: a module as its package builds it (comfyui_segment_anything),
whose `sam_wrapper` moves it to the GPU and answers prompts (Impact Pack).
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
FOLDER = "bhk"  # what ComfyUI knows the folders by, in extra_model_paths.yaml, too
DEVICES = ("auto", "gpu", "cpu")
_DEVICE = (
    list(DEVICES),
    {"tooltip": "auto: on the GPU while it is asked; gpu: always (for comfyui_segment_anything); cpu: never"},
)


def register_folder() -> None:
    """Let ComfyUI list .bhk files: those in models/sams, and wherever else other packs or the user keep SAM models."""
    known = folder_paths.folder_names_and_paths
    places = [place for name in (FOLDER, "sams") if name in known for place in known[name][0]]
    places.append(os.path.join(folder_paths.models_dir, "sams"))
    known[FOLDER] = (list(dict.fromkeys(places)), {".bhk"})


register_folder()


class SamWrapper:
    """What Impact Pack asks instead of the model itself."""

    def __init__(self, model: nn.Module, moves: bool) -> None:
        self.model = model
        self.is_auto_mode = moves

    def prepare_device(self) -> None:
        """Move the model to the GPU, if it is not to stay where it is."""
        if self.is_auto_mode:
            self.model.to(comfy.model_management.get_torch_device())

    def release_device(self) -> None:
        """Move it back."""
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
        """Return masks (height, width) of one object: all that the model expects to be as good as `threshold`, or the best.

        Args:
            image: uint8 (height, width, 3).
            points, plabs: x and y in pixels; 1 where they are on the object, 0 beside it.
            bbox: x0, y0, x1, y1 around it.
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
    sam = bhk.load(path, device=comfy.model_management.get_torch_device() if device == "gpu" else "cpu")
    sam.model_name = (entry.variant or entry.family) if entry else path.stem  # tells comfyui_segment_anything of SAM-HQ
    sam.sam_wrapper = SamWrapper(sam, moves=device == "auto")
    return sam


class LoadSam:
    """Loads a file of the models folder."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("SAM_MODEL",), ("sam_model",)
    DESCRIPTION = "A Segment Anything model from a .bhk file in models/sams, its linear layers held as codes."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model_name": (folder_paths.get_filename_list(FOLDER),), "device": _DEVICE}}

    def load(self, model_name: str, device: str) -> tuple[nn.Module]:
        path = folder_paths.get_full_path(FOLDER, model_name)
        if path is None:
            raise FileNotFoundError(f"no {model_name} in the folders of {FOLDER} models; put it into models/sams")
        return (load_sam(Path(path), device),)


class LoadSamFromHub:
    """Loads a file of the Hugging Face Hub."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("SAM_MODEL",), ("sam_model",)
    DESCRIPTION = (
        "A Segment Anything model from a repository that holds a .bhk file: user/repo, hf://user/repo/file.bhk."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"repository": ("STRING", {"default": "user/repo"}), "device": _DEVICE}}

    def load(self, repository: str, device: str) -> tuple[nn.Module]:
        return (load_sam(local_file(repository.strip()), device),)


class SegmentWithSam:
    """Asks a model about objects by points and boxes."""

    CATEGORY, FUNCTION = CATEGORY, "segment"
    RETURN_TYPES, RETURN_NAMES = ("MASK", "MASK"), ("mask", "objects")
    DESCRIPTION = (
        "Points are pixels on one object (or beside it, if negative), boxes are around one object each: "
        "10,20 30,40 or as JSON, which editors of points give. mask: one an image; objects: one an object."
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
        wrapper = getattr(sam_model, "sam_wrapper", None)  # of Impact Pack's own loader, too
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
        ValueError: the text is none of these.
    """
    try:
        entries = json.loads(text) if text.lstrip().startswith("[") else [part.split(",") for part in text.split()]
        pairs = [(entry["x"], entry["y"]) if isinstance(entry, dict) else entry for entry in entries]
        return [tuple(map(float, pair)) for pair in pairs]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{text[:80]!r} is neither like 10,20 30,40 nor JSON like [[10, 20], [30, 40]]") from error
