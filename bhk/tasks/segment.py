"""Masks of what is in a picture: `bhk.segment`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhk.base.files import WriteError, check_destination, replace_file
from bhk.nn.device import device_of, memory_error
from bhk.nn.precision import mixed_precision
from bhk.pictures.image import Rgb, read_image
from bhk.pictures.masks import bounding_box
from bhk.pictures.prompts import Prompt, PromptError, check_inside, make_prompts
from bhk.sam.prediction.predictor import Masks, Predictor, predictor_for

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Seconds:
    """Wall time.

    Attributes:
        load: reading and building the model; 0 when it was given as a module.
        encode: the image encoder.
        decode: all else between picture and masks: resizing, prompts, mask decoder, enlarging the masks.
    """

    load: float
    encode: float
    decode: float


@dataclass(frozen=True, eq=False)
class SegmentationReport:
    """Masks of a picture, and what they answer.

    Attributes:
        masks: bool (n, height, width).
        scores: the quality that the model expects of each mask, its predicted IoU; not always within 0 ... 1.
        prompts: for each mask, the prompt it answers; None for all in `everything`.
        output: "multimask" or "single", which of the decoder's outputs the masks come from; results of the two must
            not be compared.
        size: (height, width) of the picture.
        seconds: how long it took.
        peak_bytes: most memory in use since the process began: on the GPU, of tensors; else, of the whole process.
            None where the system does not tell.
    """

    masks: NDArray[np.bool_] = field(repr=False)
    scores: tuple[float, ...]
    prompts: tuple[Prompt | None, ...]
    output: str
    size: tuple[int, int]
    seconds: Seconds
    peak_bytes: int | None

    @property
    def areas(self) -> tuple[int, ...]:
        """Pixels of each mask."""
        return tuple(np.count_nonzero(self.masks, axis=(1, 2)).tolist())

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The (x, y, width, height) of the smallest box around each mask; zeros for an empty one."""
        return tuple(map(_corner_and_size, self.masks))


def segment(
    model: nn.Module | str | os.PathLike[str],
    image: str | os.PathLike[str] | Image | Rgb,
    *,
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
    everything: bool = False,
    multimask: bool = False,
    points_per_side: int = 32,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    **load_options: Any,
) -> SegmentationReport:
    """Find masks in a picture with any model of the family.

    All points ask for one object, together with the box if there is one; boxes alone ask for one object each. A single
    point may mean a part or the whole: of it the best of three masks is returned. Anything else is clear enough for the
    single mask, which is the better one then.

    Args:
        model: what `bhk.load` reads, or a module as it returns them or their packages build them; put in eval mode.
        image: a file, a Pillow image, or uint8 (height, width, 3); how it is read: `bhk.pictures.image`.
        points: (x, y) on the object, in pixels of the upright picture.
        not_points: (x, y) beside it.
        boxes: (x0, y0, x1, y1).
        everything: find all there is, by a grid of points, instead of answering prompts.
        multimask: return all masks of the multimask output, not the best: three, or as many as the model has.
        points_per_side: of the grid.
        out: draw masks and prompts on the picture and write it: .png, .jpg.
        force: replace `out` if it exists.
        load_options: for `bhk.load`: mode, compute, device, dtype.

    Raises:
        PromptError: nothing is asked for, what is asked does not go together, or it is not in the picture.
        ImageError: the picture cannot be read.
        PredictionError: the model is not one that bhk knows to ask, or it cannot do this.
        MissingPackageError: the model's package needs another one.
        DeviceMemoryError: not enough memory on the device.
        LoadError, ReadError, FormatError: see `bhk.load`.
        WriteError: `out` exists, or cannot be written.
    """
    prompts = _prompts(list(points), list(not_points), list(boxes), everything)
    if points_per_side < 1:
        raise PromptError(f"{points_per_side} points per side of the grid; expected at least 1")
    if out is not None:
        inputs = tuple(Path(source) for source in (model, image) if isinstance(source, (str, os.PathLike)))
        _check_output(Path(out), force, inputs)
    pixels = read_image(image)
    check_inside(prompts, pixels.shape[1], pixels.shape[0])
    module, load = _loaded(model, load_options)
    result = _answer(module, pixels, _Question(prompts, multimask, points_per_side), load)
    if out is not None:
        _write(Path(out), force, pixels, result)
    return result


@dataclass(frozen=True)
class _Question:
    """What `segment` was asked; `prompts` is empty if and only if it is everything."""

    prompts: tuple[Prompt, ...]
    multimask: bool
    points_per_side: int


def _answer(module: nn.Module, pixels: Rgb, question: _Question, load: float) -> SegmentationReport:
    height, width, _ = pixels.shape
    with memory_error(module, width, height), torch.no_grad(), mixed_precision(module):
        predictor = predictor_for(module)
        clear = predictor.has_single and not any(prompt.ambiguous for prompt in question.prompts)
        several = question.multimask or not question.prompts or not clear
        with _stopwatch(predictor.encoder) as encode:
            started = time.perf_counter()
            if question.prompts:
                masks, scores, answered = _answers(predictor, pixels, question, several)
            else:
                masks, scores = predictor.everything(pixels, question.points_per_side)
                answered = (None,) * len(masks)
            total = _now(module) - started
    return SegmentationReport(
        masks=masks,
        scores=tuple(scores.tolist()),
        prompts=answered,
        output="multimask" if several else "single",
        size=(height, width),
        seconds=Seconds(load, sum(encode), total - sum(encode)),
        peak_bytes=_peak_bytes(module),
    )


def _corner_and_size(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    left, top, right, bottom = bounding_box(mask)
    return left, top, right - left, bottom - top


def _prompts(
    points: list[Sequence[float]], not_points: list[Sequence[float]], boxes: list[Sequence[float]], everything: bool
) -> tuple[Prompt, ...]:
    """Return the prompts; none for everything."""
    if not everything:
        return make_prompts(points, not_points, boxes)
    if points or not_points or boxes:
        raise PromptError("everything together with points or boxes; choose one")
    return ()


def _check_output(path: Path, force: bool, inputs: tuple[Path, ...]) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise WriteError(f"cannot write {path}: unknown suffix {path.suffix!r}; use {', '.join(_FORMATS)}")
    check_destination(path, force=force, sources=inputs)


def _loaded(model: nn.Module | str | os.PathLike[str], options: dict[str, Any]) -> tuple[nn.Module, float]:
    """Return the module, and the seconds it took to load it."""
    if isinstance(model, nn.Module):
        if options:
            raise TypeError(f"{', '.join(options)}: only for a model that segment() loads itself")
        return model.eval(), 0.0
    from bhk.sam.load import load

    started = time.perf_counter()
    module = load(model, **options)
    return module, _now(module) - started


def _answers(
    predictor: Predictor, pixels: Rgb, question: _Question, several: bool
) -> tuple[NDArray[np.bool_], NDArray[np.float32], tuple[Prompt | None, ...]]:
    """Return masks and scores, every one or the best of each prompt, and the prompt of each."""
    predictor.set_image(pixels)
    found: list[Masks] = []
    answered: list[Prompt] = []
    for prompt in question.prompts:
        masks, scores = predictor.predict(prompt, multimask=several)
        if not question.multimask:
            best = int(scores.argmax())
            masks, scores = masks[best : best + 1], scores[best : best + 1]
        found.append((masks, scores))
        answered += [prompt] * len(masks)
    masks, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return masks, scores, tuple(answered)


def _now(module: nn.Module) -> float:
    """Return the time when the device has done what it was told, in seconds."""
    if device_of(module).type == "cuda":
        torch.cuda.synchronize(device_of(module))
    return time.perf_counter()


@contextlib.contextmanager
def _stopwatch(module: nn.Module) -> Iterator[list[float]]:
    """Yield a list that each call of `module` in the block adds its seconds to."""
    starts: list[float] = []
    spent: list[float] = []
    before = module.register_forward_pre_hook(lambda *_: starts.append(_now(module)))
    after = module.register_forward_hook(lambda *_: spent.append(_now(module) - starts.pop()))
    try:
        yield spent
    finally:
        before.remove()
        after.remove()


def _peak_bytes(module: nn.Module) -> int | None:
    device = device_of(module)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _write(path: Path, force: bool, pixels: Rgb, result: SegmentationReport) -> None:
    from bhk.pictures.overlay import draw

    picture = draw(pixels, result.masks, [prompt for prompt in result.prompts if prompt is not None])
    encoded = io.BytesIO()
    picture.save(encoded, format=_FORMATS[path.suffix.lower()], quality=95)
    with replace_file(path, force=force) as file:
        file.write(encoded.getbuffer())
