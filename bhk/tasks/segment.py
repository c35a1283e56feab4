"""Masks of the objects in a picture: `bhk.segment`."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhk.base.files import WriteError, check_destination, replace_file
from bhk.base.names import BHK_SUFFIX
from bhk.base.progress import Progress
from bhk.base.report import Report, plain
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number, size
from bhk.nn.device import Device, memory_error
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.nn.precision import Dtype, mixed_precision
from bhk.pictures.clip import is_clip
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.pictures.masks import bounding_box
from bhk.pictures.prompts import Prompt, PromptError, all_of, fit_inside, make_prompts
from bhk.pictures.rle import encode
from bhk.sam.attention.fuse import Attention
from bhk.sam.configuration import Config
from bhk.sam.prediction.predictor import Masks, Output, Predictor, check_prompts, predictor_for
from bhk.sam.prediction.running import ModelFile, Running, RunOptions, load_to_run, now, peak_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class Seconds:
    """Wall time of a segmentation, in seconds.

    Attributes:
        load: reading and building the model; 0 for a model that was given as a module.
        encode: the image encoder.
        decode: everything else between picture and masks: resizing, prompts, the mask decoder, enlarging the masks.
    """

    load: float
    encode: float
    decode: float


@dataclass(frozen=True, eq=False)
class SegmentationReport(Report):
    """The masks of a picture, and the prompts that they answer.

    Attributes:
        masks: bool (n, height, width).
        scores: the model's own estimate of each mask's quality, its predicted IoU; not always within 0 ... 1.
        prompts: the prompt that each mask answers; None for every mask found by `everything`.
        output: "multimask" or "single", the output of the mask decoder that the masks come from, or "instances" of a text.
            Masks and scores of different outputs cannot be compared.
        size: (height, width) of the picture.
        seconds: how long it took.
        peak_bytes: highest memory use since the process began: of tensors on a GPU, else of the whole process. None where
            the system does not tell.
        model: the file of the model; None for a model that was given as a module.
        image, out: the files that were read and written, as they were given; None for other objects.
        notes: what was changed in the prompts, and why.
    """

    json_indent: ClassVar[int | None] = None  # each mask has hundreds of run lengths

    masks: NDArray[np.bool_] = field(repr=False)
    scores: tuple[float, ...]
    prompts: tuple[Prompt | None, ...]
    output: str
    size: tuple[int, int]
    seconds: Seconds
    peak_bytes: int | None
    model: ModelFile | None = None
    image: str | None = None
    out: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def areas(self) -> tuple[int, ...]:
        """The number of pixels of each mask."""
        return tuple(np.count_nonzero(self.masks, axis=(1, 2)).tolist())

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The corners (x0, y0, x1, y1) of the smallest box around each mask; zeros for an empty mask."""
        return tuple(map(bounding_box, self.masks))

    @property
    def hints(self) -> tuple[str, ...]:
        """The notes, and a line that says so if there are no masks."""
        return self.notes if self.scores else (*self.notes, "no masks found")

    def lines(self) -> Iterator[str | Table]:
        """Yield a table of the masks, and the file with the picture."""
        rows = [
            (str(index), f"{area:,}", ",".join(map(str, box)), number(score, 3))
            for index, (area, box, score) in enumerate(zip(self.areas, self.boxes, self.scores, strict=True))
        ]
        yield Table([Column(title) for title in ("mask", "pixels", "x0,y0,x1,y1", "score")], rows)
        if self.out is not None:
            yield f"{self.out}: {counted(len(rows), 'mask')} of the {self.output} output"

    def stats(self) -> str:
        """Return time and memory as a line of text."""
        memory = "" if self.peak_bytes is None else f"; at most {size(self.peak_bytes)} in use"
        load, encode, decode = self.seconds.load, self.seconds.encode, self.seconds.decode
        return f"load {load:.2f} s, encode {encode:.2f} s, decode {decode:.2f} s{memory}"

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values: masks in COCO's run-length encoding, boxes as its (x, y, width, height)."""
        prompts = list(dict.fromkeys(prompt for prompt in self.prompts if prompt is not None))
        height, width = self.size
        found = zip(self.masks, self.areas, self.boxes, self.scores, self.prompts, strict=True)
        masks = [
            {
                "segmentation": encode(mask),
                "area": area,
                "bbox": (x0, y0, x1 - x0, y1 - y0),
                "score": score,
                "prompt": None if prompt is None else prompts.index(prompt),
            }
            for mask, area, (x0, y0, x1, y1), score, prompt in found
        ]
        document: dict[str, Any] = plain(
            {
                "model": self.model,
                "image": {"path": self.image, "width": width, "height": height},
                "out": self.out,
                "output": self.output,
                "prompts": prompts,
                "masks": masks,
                "seconds": self.seconds,
                "peak_bytes": self.peak_bytes,
                "notes": self.notes,
            }
        )
        return document


def segment(
    model: nn.Module | str | os.PathLike[str],
    image: str | os.PathLike[str] | Image | Rgb,
    *,
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
    texts: str | Iterable[str] = (),
    separate: bool = False,
    everything: bool = False,
    multimask: bool = False,
    points_per_side: int = 32,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    mode: Mode = "auto",
    compute: Compute = "exact",
    device: Device | None = None,
    dtype: Dtype | None = None,
    attention: Attention = "fused",
    verify: bool = True,
    config: Config | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> SegmentationReport:
    """Find masks in a picture with any model of the Segment Anything family.

    All points, and the box if there is one, describe one object. Several boxes without points describe one object each, and
    so do `separate` points. A single point may mean a part or the whole, so the model proposes three masks, and the best one
    is returned. Other prompts are clear enough for the model's single mask, which is then the better one. A text finds all
    objects that it names; SAM 3 alone takes texts.

    >>> found = bhk.segment("demo_sam.bhk", "photo.jpg", boxes=[(20, 20, 90, 90)])
    >>> found.masks.shape, found.masks.dtype, found.output
    ((1, 384, 384), dtype('bool'), 'single')

    Args:
        model: a file or address that `bhk.load` reads, or a module of one of the family's packages. It is put in eval mode.
        image: a file, a Pillow image, or uint8 (height, width, 3). Pictures are turned upright as their EXIF entry
            says.
        points: points (x, y) on the object, in pixels of the upright picture.
        not_points: points (x, y) outside the object.
        boxes: boxes (x0, y0, x1, y1) around objects; what reaches over the edge of the picture is cut off.
        texts: what to find, such as "a cup".
        separate: each point is on an object of its own, as each box is around one.
        everything: find all objects with a grid of points, instead of answering prompts.
        multimask: return all masks that the model proposes for a prompt (usually three), instead of the best.
        points_per_side: number of points along each side of the grid.
        out: write the picture with masks and prompts drawn on it to this file: .png or .jpg.
        force: replace `out` if it exists.
        mode, compute, device, dtype, attention, verify, config, threads, progress: see `bhk.load`. A module is loaded
            already, so it takes none of them.

    Raises:
        PromptError: there are no prompts, they contradict each other, or a point or most of a box lies outside the picture.
        ImageError: the picture cannot be read.
        PredictionError: bhk does not know how to use the model, or the model cannot do this.
        MissingPackageError: the model's package needs another package.
        DeviceMemoryError: the device does not have enough memory.
        LoadOptionError: options of loading were given for a module.
        LoadError, ReadError, FormatError: see `bhk.load`.
        WriteError: `out` exists, or cannot be written.
    """
    prompts = _prompts(list(points), list(not_points), list(boxes), all_of(texts), separate, everything)
    if points_per_side < 1:
        raise PromptError(f"{points_per_side} points per side of the grid; expected at least 1")
    if out is not None:
        inputs = tuple(Path(source) for source in (model, image) if isinstance(source, (str, os.PathLike)))
        _check_output(Path(out), force, inputs)
    if isinstance(image, str | os.PathLike) and Path(image).suffix == BHK_SUFFIX:
        raise ImageError(f"{Path(image).name} is a {BHK_SUFFIX} file; expected a picture: the model comes first")
    if is_clip(image):
        raise ImageError(f"{image!s} is a clip, not a picture; use bhk.segment_video")
    pixels = read_image(image)
    prompts, notes = fit_inside(prompts, pixels.shape[1], pixels.shape[0])
    running = load_to_run(model, RunOptions(mode, compute, device, dtype, attention, verify, config, threads, progress))
    found = _answer(running, pixels, _Question(prompts, multimask, points_per_side))
    if out is not None:
        _write(Path(out), force, pixels, found)
    return replace(found, model=running.file, image=_name(image), out=_name(out), notes=(*running.notes, *notes))


def _name(source: object) -> str | None:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


@dataclass(frozen=True)
class _Question:
    """What `segment` was asked; `prompts` is empty if and only if it was asked for everything."""

    prompts: tuple[Prompt, ...]
    multimask: bool
    points_per_side: int


def _answer(running: Running, pixels: Rgb, question: _Question) -> SegmentationReport:
    module = running.module
    height, width, _ = pixels.shape
    with memory_error(module, width, height), torch.no_grad(), mixed_precision(module):
        predictor = predictor_for(module)
        check_prompts(predictor, texts=any(prompt.text is not None for prompt in question.prompts))
        doubtful = not question.prompts or any(prompt.ambiguous for prompt in question.prompts)
        wanted: Output = "multimask" if question.multimask or doubtful else "single"
        output = wanted if wanted in predictor.outputs or not question.prompts else predictor.outputs[0]
        with _stopwatch(predictor.encoder) as encode:
            started = time.perf_counter()
            if question.prompts:
                masks, scores, answered = _answers(predictor, pixels, question, output)
            else:
                masks, scores = predictor.everything(pixels, question.points_per_side)
                answered = (None,) * len(masks)
            total = now(module) - started
    return SegmentationReport(
        masks=masks,
        scores=tuple(scores.tolist()),
        prompts=answered,
        output="instances" if any(prompt.text for prompt in question.prompts) else output,
        size=(height, width),
        seconds=Seconds(running.seconds, sum(encode), total - sum(encode)),
        peak_bytes=peak_bytes(module),
    )


def _prompts(
    points: list[Sequence[float]],
    not_points: list[Sequence[float]],
    boxes: list[Sequence[float]],
    texts: tuple[str, ...],
    separate: bool,
    everything: bool,
) -> tuple[Prompt, ...]:
    """Return the prompts, or none for everything."""
    if not everything:
        return make_prompts(points, not_points, boxes, texts, separate=separate)
    if points or not_points or boxes or texts:
        raise PromptError("everything does not go together with points, boxes or texts; choose one")
    return ()


def _check_output(path: Path, force: bool, inputs: tuple[Path, ...]) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise WriteError(f"cannot write {path}: unknown suffix {path.suffix!r}; use {', '.join(_FORMATS)}")
    check_destination(path, force=force, sources=inputs)


def _answers(
    predictor: Predictor, pixels: Rgb, question: _Question, output: Output
) -> tuple[NDArray[np.bool_], NDArray[np.float32], tuple[Prompt | None, ...]]:
    """Return the masks and scores of every prompt, all of them or the best, and the prompt of each mask."""
    predictor.set_image(pixels)
    found: list[Masks] = []
    answered: list[Prompt] = []
    for prompt in question.prompts:
        masks, scores = predictor.predict(prompt, multimask=output == "multimask")
        if not question.multimask and prompt.text is None:
            best = int(scores.argmax())
            masks, scores = masks[best : best + 1], scores[best : best + 1]
        found.append((masks, scores))
        answered += [prompt] * len(masks)
    masks, scores = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return masks, scores, tuple(answered)


@contextlib.contextmanager
def _stopwatch(module: nn.Module) -> Iterator[list[float]]:
    """Yield a list to which each call of `module` in the block adds its seconds."""
    starts: list[float] = []
    spent: list[float] = []
    before = module.register_forward_pre_hook(lambda *_: starts.append(now(module)))
    after = module.register_forward_hook(lambda *_: spent.append(now(module) - starts.pop()))
    try:
        yield spent
    finally:
        before.remove()
        after.remove()


def _write(path: Path, force: bool, pixels: Rgb, result: SegmentationReport) -> None:
    from bhk.pictures.overlay import draw

    picture = draw(pixels, result.masks, [prompt for prompt in result.prompts if prompt is not None])
    encoded = io.BytesIO()
    picture.save(encoded, format=_FORMATS[path.suffix.lower()], quality=95)
    with replace_file(path, force=force) as file:
        file.write(encoded.getbuffer())
