"""Following objects with models of `sam2` and the packages derived from it: EdgeTAM, EfficientTAM.

The package's `SAM2VideoPredictor` holds all frames of a clip, and all that it found in them. This takes the same steps, but
holds only what the model looks back at, and finds the same masks. Small holes in masks stay, as with `Sam2Predictor`: only the
package's CUDA extension fills them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from bhk.pictures.clip import Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.tracker import FrameMasks, forget, frame_order

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pixels that the models are trained with
_ASKED, _FOLLOWED = "cond_frame_outputs", "non_cond_frame_outputs"  # keys that the model looks for
_SHOWN = ("pred_masks", "object_score_logits")  # what becomes masks and scores


class Sam2Tracker:
    """Calls the model's own parts: the encoder for each frame, and `track_step` for each object in it."""

    reads_points, reads_text = True, False

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model = cast("Any", model)
        memories = self._model.num_maskmem * self._model.memory_temporal_stride_for_eval
        self._reach: int = max(memories, self._model.max_obj_ptrs_in_encoder)

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes a frame."""
        return self._model.image_encoder  # type: ignore[no-any-return]

    def follow(self, clip: Clip, prompts: Sequence[ClipPrompt]) -> Iterator[FrameMasks]:
        """Yield the masks of all objects in every frame."""
        memories = [_Memory() for _ in range(1 + max(prompt.object for prompt in prompts))]
        start = min(prompt.frame for prompt in prompts)
        with _clear_prompted_masks(self._model):
            for index, group in itertools.groupby(prompts, key=lambda prompt: prompt.frame):
                seen = self._encoded(clip[index])
                for prompt in group:
                    step = self._step(
                        seen, memories[prompt.object], index, len(clip), asked=self._points(prompt, clip.size)
                    )
                    memories[prompt.object].keep_asked(step, index)
            for index, backwards in frame_order(len(clip), prompts):
                found = {number: given for number, memory in enumerate(memories) if (given := memory.asked(index))}
                if len(found) < len(memories):
                    seen = self._encoded(clip[index])
                    for number, memory in enumerate(memories):
                        if number not in found:
                            found[number] = self._step(seen, memory, index, len(clip), backwards=backwards)
                            memory.keep(found[number], index)
                            forget(memory.outputs[_FOLLOWED], index, start, self._reach)
                yield _masks(index, [found[number] for number in range(len(memories))], clip.size)

    def _step(
        self,
        seen: dict[str, Any],
        memory: _Memory,
        index: int,
        frames: int,
        *,
        asked: dict[str, Tensor] | None = None,
        backwards: bool = False,
    ) -> dict[str, Any]:
        """Return what the model finds of an object in a frame: by a prompt alone, or by what it remembers."""
        found: dict[str, Any] = self._model.track_step(
            frame_idx=index,
            is_init_cond_frame=asked is not None,
            **seen,
            point_inputs=asked,
            mask_inputs=None,
            output_dict=memory.outputs,
            num_frames=frames,
            track_in_reverse=backwards,
        )
        return found

    def _encoded(self, picture: Rgb) -> dict[str, Any]:
        """Return a frame's features as `track_step` takes them."""
        side = self._model.image_size
        resized = np.asarray(Image.fromarray(picture).resize((side, side)))  # as the package resizes frames
        pixels = torch.from_numpy(resized / 255.0).permute(2, 0, 1).float()
        normal = (pixels - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
        found = self._model.forward_image(normal[None].to(self._model.device))
        _, features, positions, sizes = self._model._prepare_backbone_features(found)
        return {"current_vision_feats": features, "current_vision_pos_embeds": positions, "feat_sizes": sizes}

    def _points(self, prompt: Prompt, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return a prompt in pixels of the encoder's input; a box is two points, labelled 2 and 3, before the others."""
        corners = () if prompt.box is None else (prompt.box[:2], prompt.box[2:])
        labels = [2, 3][: len(corners)] + [1] * len(prompt.points) + [0] * len(prompt.not_points)
        height, width = size
        points = torch.tensor([*corners, *prompt.points, *prompt.not_points], dtype=torch.float32)
        scaled = points / torch.tensor([width, height]) * self._model.image_size
        device = self._model.device
        return {
            "point_coords": scaled[None].to(device),
            "point_labels": torch.tensor([labels], dtype=torch.int32, device=device),
        }


class _Memory:
    """What the model reads again of the frames in which it has found an object.

    Attributes:
        outputs: by whether the frame had a prompt, and by frame; as `track_step` takes it.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, dict[int, dict[str, Any]]] = {_ASKED: {}, _FOLLOWED: {}}
        self._positions: list[Tensor] | None = None

    def keep(self, step: dict[str, Any], index: int) -> None:
        """Keep what the model reads again of a frame without a prompt."""
        self.outputs[_FOLLOWED][index] = self._remembered(step)

    def keep_asked(self, step: dict[str, Any], index: int) -> None:
        """Keep what a prompt found in a frame, its mask as well."""
        self.outputs[_ASKED][index] = self._remembered(step) | {name: step[name] for name in _SHOWN}

    def asked(self, index: int) -> dict[str, Any] | None:
        """Return what a prompt found in a frame; None for a frame without one."""
        return self.outputs[_ASKED].get(index)

    def _remembered(self, step: dict[str, Any]) -> dict[str, Any]:
        """Return what a step found: features rounded to bfloat16 as in the package, and positions, always the same, once.

        The package keeps them in bfloat16, and fails without autocast where it has them alone, before the first prompt.
        """
        features = step["maskmem_features"]
        if self._positions is None:
            self._positions = step["maskmem_pos_enc"]
        return {
            "maskmem_features": features.to(torch.bfloat16).to(features.dtype),
            "maskmem_pos_enc": self._positions,
            "obj_ptr": step["obj_ptr"],
        }


@contextlib.contextmanager
def _clear_prompted_masks(model: Any) -> Iterator[None]:
    """Let a model remember the masks of prompts as yes or no, as in the package's video predictor."""
    before = model.binarize_mask_from_pts_for_mem_enc
    model.binarize_mask_from_pts_for_mem_enc = True
    try:
        yield
    finally:
        model.binarize_mask_from_pts_for_mem_enc = before


def _masks(index: int, steps: Sequence[dict[str, Any]], size: tuple[int, int]) -> FrameMasks:
    logits = torch.cat([step["pred_masks"] for step in steps]).float()
    large = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    seen = torch.cat([step["object_score_logits"] for step in steps]).float().sigmoid()
    masks, scores = (large[:, 0] > 0).cpu().numpy(), seen.reshape(-1).cpu().numpy()
    return FrameMasks(index, tuple(range(len(steps))), masks, scores)
