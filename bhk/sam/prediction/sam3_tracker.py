"""Following objects with the whole of SAM 3, transformers' `Sam3VideoModel`: those that texts name, or at points and boxes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, cast

from torch import nn

from bhk.nn.meta import weights_on_meta
from bhk.nn.model_tensors import private_twin
from bhk.pictures.clip import Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.sam.prediction.hugging_face_tracker import Frames, HuggingFaceTracker, processors
from bhk.sam.prediction.texts import TextReader
from bhk.sam.prediction.tracker import FrameMasks

_LARGE = ("maskmem_features", "maskmem_pos_enc", "pred_masks", "high_res_masks", "image_embeddings")


class Sam3Tracker:
    """Looks in each frame for what texts name, and follows each object that it finds; or follows those of points and boxes.

    The model takes back objects that it does not find again soon, so it tells about a frame when it has seen 15 more.
    """

    reads_points, reads_text = True, True

    def __init__(self, model: nn.Module, package: ModuleType) -> None:
        self._model, self._package = cast("Any", model), cast("Any", package)
        self._texts = TextReader(model, self._model.detector_model, package)

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes a frame, for the detector and the tracker."""
        return self._model.detector_model.vision_encoder.backbone  # type: ignore[no-any-return]

    def follow(self, clip: Clip, prompts: Sequence[ClipPrompt]) -> Iterator[FrameMasks]:
        """Yield the masks of all objects in every frame."""
        texts = [prompt.text for prompt in prompts if prompt.text is not None]
        if not texts:
            return HuggingFaceTracker(_tracker_of(self._model, self._package), self._package).follow(clip, prompts)
        return self._find(clip, texts)

    def _find(self, clip: Clip, texts: Sequence[str]) -> Iterator[FrameMasks]:
        images, videos = processors(self._model.config.tracker_config, self._package)
        processor = self._package.Sam3VideoProcessor(images, videos, self._texts.tokenizer)
        session = processor.init_video_session(inference_device=self._model.device, dtype=self._model.dtype)
        session.video_height, session.video_width = clip.size
        session.processed_frames = Frames(clip, images, self._model.dtype)
        for text in texts:
            number, tokens = session.add_prompt(text), self._texts.tokens(text)
            session.prompt_input_ids[number] = tokens["input_ids"]
            session.prompt_attention_masks[number] = tokens["attention_mask"]
        for step in self._model.propagate_in_video_iterator(session):
            found = processor.postprocess_outputs(session, step)
            texts_of = {number: text for text, numbers in found["prompt_to_obj_ids"].items() for number in numbers}
            objects = tuple(found["object_ids"].tolist())
            masks, scores = found["masks"].cpu().numpy(), found["scores"].float().cpu().numpy()
            self._forget(session)
            yield FrameMasks(step.frame_idx, objects, masks, scores, tuple(texts_of[number] for number in objects))

    def _forget(self, session: Any) -> None:
        """Remove what the model does not look at again, so that memory hardly grows with the clip."""
        config = self._model.config.tracker_config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        for outputs in session.output_dict_per_obj.values():
            asked, followed = outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]
            last = max([*asked, *followed], default=0)
            for index in [index for index in followed if index < last - reach]:
                del followed[index]
            if config.max_cond_frame_num > 0:  # of the others, only pointers are read
                for index in sorted(asked)[: -config.max_cond_frame_num]:
                    if index < last - reach:
                        asked[index].update(dict.fromkeys(_LARGE))
        for of_frames in (session.obj_id_to_tracker_score_frame_wise, session.suppressed_obj_ids):
            for index in sorted(of_frames)[:-1]:
                del of_frames[index]


def _tracker_of(model: Any, package: Any) -> nn.Module:
    """Return the `Sam3TrackerVideoModel` that consists of modules of a `Sam3VideoModel`, which has one without an encoder."""
    tracker: Any = private_twin(model.tracker_model)
    modeling: Any = importlib.import_module(type(tracker).__module__)
    with weights_on_meta():
        tracker.vision_encoder = modeling.AutoModel.from_config(tracker.config.vision_config)
    tracker.vision_encoder.backbone = model.detector_model.vision_encoder.backbone
    tracker.vision_encoder.neck = model.tracker_neck
    return cast("nn.Module", tracker.eval())
