"""Following objects with models of `transformers`: Sam2VideoModel, EdgeTamVideoModel, Sam3TrackerVideoModel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, cast

from torch import Tensor, nn

from bhk.pictures.clip import Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.tracker import FrameMasks, forget, frame_order


class HuggingFaceTracker:
    """Calls the model frame by frame, with the processor of transformers before and after it.

    The processor is made from the model's configuration, so nothing is downloaded.
    """

    reads_points, reads_text = True, False

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model = cast("Any", model)
        config = self._model.config
        of_sam3 = config.model_type == "sam3_tracker_video"
        kind = package.Sam3TrackerVideoProcessor if of_sam3 else package.Sam2VideoProcessor
        self._processor: Any = kind(*processors(config, package))
        self._reach: int = max(config.num_maskmem, config.max_object_pointers_in_encoder)

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes a frame."""
        return self._model.vision_encoder  # type: ignore[no-any-return]

    def follow(self, clip: Clip, prompts: Sequence[ClipPrompt]) -> Iterator[FrameMasks]:
        """Yield the masks of all objects in every frame."""
        session = self._session(clip)
        start = min(prompt.frame for prompt in prompts)
        for index, group in itertools.groupby(prompts, key=lambda prompt: prompt.frame):
            asked = list(group)
            for prompt in asked:
                self._processor.add_inputs_to_inference_session(session, index, prompt.object, **_inputs(prompt))
            # Each call has put its own number alone there.
            session.obj_with_new_inputs = [prompt.object for prompt in asked]
            self._model(session, frame_idx=index)
        for index, backwards in frame_order(len(clip), prompts):
            found = self._model(session, frame_idx=index, reverse=backwards)
            for outputs in session.output_dict_per_obj.values():
                forget(outputs["non_cond_frame_outputs"], index, start, self._reach)
            logits = self._processor.post_process_masks([found.pred_masks], [list(clip.size)], binarize=False)[0]
            scores = found.object_score_logits.float().sigmoid().reshape(-1)
            yield FrameMasks(index, tuple(session.obj_ids), (logits[:, 0] > 0).cpu().numpy(), scores.cpu().numpy())

    def _session(self, clip: Clip) -> Any:
        """Return a session that reads the frames of a clip when they are needed."""
        session = self._processor.init_video_session(inference_device=self._model.device, dtype=self._model.dtype)
        session.video_height, session.video_width = clip.size
        session.processed_frames = Frames(clip, self._processor.image_processor, self._model.dtype)
        return session


class Frames:
    """The frames of a clip as a session expects them: number -> (3, height, width) of the encoder's input."""

    def __init__(self, clip: Clip, processor: Any, dtype: Any) -> None:
        self._clip, self._processor, self._dtype = clip, processor, dtype

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, index: int) -> Tensor:
        found = self._processor(images=self._clip[index], input_data_format="channels_last", return_tensors="pt")
        return found["pixel_values"][0].to(self._dtype)  # type: ignore[no-any-return]


def _inputs(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as the processor takes it for one object of one clip."""
    inputs: dict[str, Any] = {}
    if points := [*prompt.points, *prompt.not_points]:
        inputs["input_points"] = [[[list(point) for point in points]]]
        inputs["input_labels"] = [[[1] * len(prompt.points) + [0] * len(prompt.not_points)]]
    if prompt.box is not None:
        inputs["input_boxes"] = [[list(prompt.box)]]
    return inputs


def processors(config: Any, transformers: ModuleType) -> tuple[Any, Any]:
    """Return the processors of pictures and of clips for the configuration of a model or of its tracker."""
    side = config.image_size
    size = {"height": side, "width": side} if isinstance(side, int) else {"height": side[0], "width": side[1]}
    of_sam3 = config.model_type == "sam3_tracker_video"
    pictures = (transformers.Sam3ImageProcessor if of_sam3 else transformers.Sam2ImageProcessor)(size=size)
    colours = {"image_mean": pictures.image_mean, "image_std": pictures.image_std}
    return pictures, transformers.Sam2VideoVideoProcessor(size=size, **colours)
