"""One interface to following objects through a clip with the models of all packages: `tracker_for`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bhk.base.packages import MissingPackageError
from bhk.pictures.clip import Clip
from bhk.pictures.clip_prompts import ClipPrompt
from bhk.sam.prediction.predictor import PredictionError


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """The masks of the objects in one frame.

    Attributes:
        frame: its index in the clip.
        objects: number of each object: that of its prompts, or one for each object that a text finds.
        masks: bool (objects, height, width); empty where the object is out of sight.
        scores: float32 (objects,), how likely the model thinks that each object is in sight, 0 … 1.
        texts: the text that names each object; empty for objects of points and boxes.
    """

    frame: int
    objects: tuple[int, ...]
    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    texts: tuple[str, ...] = ()


class Tracker(Protocol):
    """Follows objects through a clip with one kind of model. It is made from the model and the package of its class.

    Attributes:
        reads_points: whether it takes points and boxes.
        reads_text: whether it takes texts.
    """

    reads_points: bool
    reads_text: bool

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes a frame, once for all objects."""

    def follow(self, clip: Clip, prompts: Sequence[ClipPrompt]) -> Iterator[FrameMasks]:
        """Yield the masks of all objects in every frame.

        The frames come in the order of `frame_order`; of one that comes twice, the later masks count. What the prompts of all
        frames find is known before the first is yielded: objects are followed to them and from them.

        Args:
            clip: the frames, which are read when they are needed.
            prompts: as `bhk.pictures.clip_prompts.checked_prompts` returns them.

        Raises:
            PredictionError: the model does not take such prompts.
        """


def frame_order(frames: int, prompts: Sequence[ClipPrompt]) -> Iterator[tuple[int, bool]]:
    """Yield the frames from the first with a prompt on, then those before it backwards; each with whether the step goes back.

    Where some objects have their first prompt later, that frame comes again on the way back, as in the packages, which find
    these objects anew there.
    """
    start = min(prompt.frame for prompt in prompts)
    objects, asked = (
        {prompt.object for prompt in group} for group in (prompts, [p for p in prompts if p.frame == start])
    )
    yield from ((index, False) for index in range(start, frames))
    if start > 0:
        yield from ((index, True) for index in range(start - (objects == asked), -1, -1))


def forget(outputs: dict[int, Any], frame: int, start: int, reach: int) -> None:
    """Remove what a model found in frames that are more than `reach` frames from the current one and from the first.

    So memory does not grow with the clip. The frames around the first are for the way back.
    """
    for index in [index for index in outputs if min(abs(index - frame), abs(index - start)) > reach]:
        del outputs[index]


def tracker_for(model: nn.Module) -> Tracker:
    """Return the tracker for a model's class.

    Raises:
        PredictionError: the class is not known, or has no memory for video.
        MissingPackageError: a package that the model's package needs is not installed.
    """
    for kind in type(model).__mro__:
        package = kind.__module__.partition(".")[0]
        if found := _TRACKERS.get(f"{package}.{kind.__name__}"):
            module, _, name = found.partition(".")
            try:
                return _make(module, name, model, package)
            except ImportError as error:
                needs = f"following objects with {package} needs a package that is missing ({error})"
                raise MissingPackageError(f"{needs}; run: pip install torchvision pillow") from error
    name = f"{type(model).__module__}.{type(model).__name__}"
    raise PredictionError(
        f"bhk cannot follow objects with {name}: it has no memory of earlier frames, or none that bhk knows; expected one of "
        f"{', '.join(_TRACKERS)}"
    )


def _make(module: str, name: str, model: nn.Module, package: str) -> Tracker:
    kind: type[Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    origin: ModuleType = importlib.import_module(package)
    tracker: Tracker = kind(model, origin)
    return tracker


# Package and class of a model -> module and class of its tracker.
_TRACKERS = {
    "sam2.SAM2Base": "sam2_tracker.Sam2Tracker",
    "efficient_track_anything.EfficientTAMBase": "sam2_tracker.Sam2Tracker",
    "transformers.Sam2VideoModel": "hugging_face_tracker.HuggingFaceTracker",
    "transformers.EdgeTamVideoModel": "hugging_face_tracker.HuggingFaceTracker",
    "transformers.Sam3TrackerVideoModel": "hugging_face_tracker.HuggingFaceTracker",
    "transformers.Sam3VideoModel": "sam3_tracker.Sam3Tracker",
}
