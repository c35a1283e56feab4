"""Fidelity in a clip: how closely the masks of objects agree that several models follow, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bhk.evaluation.fidelity import ImageFidelity, cosine
from bhk.evaluation.models import embedding_of
from bhk.nn.device import memory_error
from bhk.nn.precision import mixed_precision
from bhk.pictures.clip import Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.pictures.masks import boundary_iou, mask_iou
from bhk.pictures.prompts import Prompt
from bhk.sam.prediction.tracker import FrameMasks, tracker_for

Step = tuple[FrameMasks, Tensor]  # the masks in a frame, and the frame's embedding, float32 (values,) on the CPU


class Follower:
    """A model that follows objects through clips.

    Args:
        model: a model that `bhk.load(…, video=True)` returns.

    Raises:
        PredictionError: the model has no memory of earlier frames, or bhk does not know it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()
        self._tracker = tracker_for(model)
        self._embedding = torch.empty(0)

    def follow(self, clip: Clip, prompts: Sequence[Prompt]) -> Iterator[Step]:
        """Yield what the model finds in each frame; the prompts are about the first."""

        def keep(module: nn.Module, inputs: object, outputs: object) -> None:
            self._embedding = embedding_of(outputs)

        height, width = clip.size
        steps = self._tracker.follow(clip, [ClipPrompt(**vars(prompt), object=i) for i, prompt in enumerate(prompts)])
        hook = self._tracker.encoder.register_forward_hook(keep)
        try:
            for _ in range(len(clip)):
                # Around each step alone, because the steps of several models take turns.
                with memory_error(self._model, width, height), torch.no_grad(), mixed_precision(self._model):
                    found = next(steps)
                yield found, self._embedding
        finally:
            hook.remove()


def compare_followers(
    original: Follower, others: Sequence[Follower], clip: Clip, prompts: Sequence[Prompt]
) -> Iterator[tuple[ImageFidelity, ...]]:
    """Yield for each frame how closely each of `others` agrees with `original`. The models go through the clip side by side.

    Raises:
        ClipError: a frame cannot be read.
        NotFiniteError: an embedding is not finite.
    """
    for expected, *found in zip(*(model.follow(clip, prompts) for model in (original, *others)), strict=True):
        yield tuple(_compared(expected, step) for step in found)


def _compared(original: Step, other: Step) -> ImageFidelity:
    (expected, embedding), (found, other_embedding) = original, other
    pairs = list(zip(expected.masks, found.masks, strict=True))
    return ImageFidelity(
        kinds=["followed"] * len(pairs),
        iou=[mask_iou(a, b) for a, b in pairs],
        boundary_iou=[boundary_iou(a, b) for a, b in pairs],
        score_change=(found.scores - expected.scores).tolist(),
        flips=[False] * len(pairs),
        empty=[not (a.any() or b.any()) for a, b in pairs],
        embedding_cosine=cosine(embedding, other_embedding),
    )
