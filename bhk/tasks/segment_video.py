"""Masks of objects in every frame of a clip: `bhk.segment_video`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhk.base.progress import Progress, silent
from bhk.base.report import Report, plain
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number, printable, size
from bhk.file.bhkfile import Array
from bhk.nn.device import Device, memory_error
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.nn.precision import Dtype, mixed_precision
from bhk.pictures.clip import Clip, check_frame, open_clip
from bhk.pictures.clip_overlay import check_overlay, write_overlay
from bhk.pictures.clip_prompts import ClipPrompt, Mark, checked_prompts, clip_prompts, fit_frames
from bhk.pictures.masks import bounding_box
from bhk.pictures.prompts import PromptError, all_of, make_prompts
from bhk.pictures.rle import decode, runs
from bhk.sam.attention.fuse import Attention
from bhk.sam.configuration import Config
from bhk.sam.prediction.predictor import check_prompts
from bhk.sam.prediction.running import ModelFile, Running, RunOptions, load_to_run, now, peak_bytes
from bhk.sam.prediction.tracker import FrameMasks, tracker_for

Runs = NDArray[np.int32]  # lengths of the runs of a mask, see `bhk.pictures.rle`


@dataclass(frozen=True)
class ClipFile:
    """The clip that was segmented.

    Attributes:
        path: the folder or file, as it was given.
        width, height: size of its frames in pixels.
        rate: frames a second; 25 for a folder, which does not tell.
        names: the file name of each frame; None for a video file.
    """

    path: str
    width: int
    height: int
    rate: float
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class VideoSeconds:
    """Wall time of following objects, in seconds.

    Attributes:
        load: reading and building the model; 0 for a model that was given as a module.
        follow: reading frames and finding masks in them.
    """

    load: float
    follow: float


@dataclass(frozen=True, eq=False)
class VideoReport(Report):
    """The masks of objects in every frame of a clip. They are kept as run lengths, four bytes a run.

    Attributes:
        clip: the clip.
        prompts: what each object answers: its prompts by frame, or the text that names it.
        runs: the run lengths of each mask, `runs[frame][object]`; see `masks`.
        scores: float32 (frames, objects), how likely the model thinks that the object is in sight, 0 … 1; of a text's object,
            how well it answers the text where it is in sight, else 0.
        seconds: how long it took.
        peak_bytes: highest memory use since the process began: of tensors on a GPU, else of the whole process. None where
            the system does not tell.
        model: the file of the model; None for a model that was given as a module.
        out: the file or folder that was written, as it was given; None if there is none.
        notes: what was changed in the prompts, and why.
    """

    json_indent: ClassVar[int | None] = None  # each mask has hundreds of run lengths

    clip: ClipFile
    prompts: tuple[ClipPrompt, ...]
    runs: tuple[tuple[Runs, ...], ...] = field(repr=False)
    scores: NDArray[np.float32] = field(repr=False)
    seconds: VideoSeconds
    peak_bytes: int | None
    model: ModelFile | None = None
    out: str | None = None
    notes: tuple[str, ...] = ()

    def masks(self, frame: int) -> Array:
        """Return the masks in a frame, bool (objects, height, width); empty where an object is out of sight."""
        size = (self.clip.height, self.clip.width)
        masks = np.zeros((len(self.runs[frame]), *size), np.bool_)
        for mask, counts in zip(masks, self.runs[frame], strict=True):
            mask[:] = decode({"size": size, "counts": counts})
        return masks

    @property
    def areas(self) -> Array:
        """The number of pixels of each mask, int64 (frames, objects)."""
        areas = [[counts[1::2].sum() for counts in masks] for masks in self.runs]
        return np.array(areas, dtype=np.int64).reshape(self.scores.shape)

    @property
    def hints(self) -> tuple[str, ...]:
        """The notes, and a line that says which objects were never found."""
        if not self.scores.shape[1]:
            return (*self.notes, "no masks found")
        lost = [str(index) for index, area in enumerate(self.areas.sum(axis=0)) if not area]
        return (*self.notes, f"no masks found for object {', '.join(lost)}") if lost else self.notes

    def lines(self) -> Iterator[str | Table]:
        """Yield a table of the objects, and what was written."""
        areas = self.areas
        texts = {prompt.object: prompt.text for prompt in self.prompts if prompt.text is not None}
        rows = []
        for index in range(areas.shape[1]):
            seen = np.flatnonzero(areas[:, index])
            span = f"{seen[0]} to {seen[-1]}" if len(seen) else ""
            pixels = f"{areas[seen, index].mean():,.0f}" if len(seen) else ""
            named = (printable(texts[index]),) if texts else ()
            score = number(float(self.scores[:, index].mean()), 3)
            rows.append((str(index), *named, str(len(seen)), span, pixels, score))
        titles = ("object", *(["text"] if texts else []), "frames with it", "from", "pixels, mean", "score, mean")
        yield Table([Column(title) for title in titles], rows)
        frames = counted(len(self.runs), "frame")
        yield frames if self.out is None else f"{self.out}: {frames}"

    def stats(self) -> str:
        """Return time and memory as a line of text."""
        memory = "" if self.peak_bytes is None else f"; at most {size(self.peak_bytes)} in use"
        load, follow = self.seconds.load, self.seconds.follow
        return f"load {load:.2f} s, follow {follow:.2f} s, {len(self.runs) / follow:.2f} frames a second{memory}"

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values, with a record for each frame and object: COCO's run lengths and box."""
        document: dict[str, Any] = plain(
            {
                "model": self.model,
                "clip": {**vars(self.clip), "frames": len(self.runs)},
                "out": self.out,
                "notes": self.notes,
                "prompts": self.prompts,
                "masks": [record for frame in range(len(self.runs)) for record in self._records(frame)],
                "seconds": self.seconds,
                "peak_bytes": self.peak_bytes,
            }
        )
        return document

    def _records(self, frame: int) -> Iterator[dict[str, Any]]:
        for index, mask in enumerate(self.masks(frame)):
            x0, y0, x1, y1 = bounding_box(mask)
            yield {
                "frame": frame,
                "object": index,
                "segmentation": {"size": list(mask.shape), "counts": self.runs[frame][index].tolist()},
                "area": int(np.count_nonzero(mask)),
                "bbox": (x0, y0, x1 - x0, y1 - y0),
                "score": float(self.scores[frame, index]),
            }


def segment_video(
    model: nn.Module | str | os.PathLike[str],
    clip: str | os.PathLike[str],
    *,
    points: Iterable[Sequence[float]] = (),
    not_points: Iterable[Sequence[float]] = (),
    boxes: Iterable[Sequence[float]] = (),
    texts: str | Iterable[str] = (),
    separate: bool = False,
    frame: int = 0,
    prompts: Iterable[ClipPrompt] = (),
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
) -> VideoReport:
    """Find the masks of objects in every frame of a clip with a SAM 2 or another model that remembers earlier frames.

    Points and boxes describe objects in one frame, as those of `bhk.segment` do in a picture: all points and a box are one
    object, several boxes without points are one each, and so are `separate` points. In `prompts`, several objects have prompts
    in frames of their own, and an object that is lost or wrong later has another one there. Objects are followed from the
    first of these frames to the end, and then back to the beginning. A text finds all objects that it names in all frames;
    SAM 3 alone takes texts. Frames are read when they are needed, and the model keeps only what it looks back at, so memory
    hardly grows with the clip.

    >>> config, small = "configs/sam2.1/sam2.1_hiera_t.yaml", ["model.image_size=256"]
    >>> untrained = bhk.sam.build_sam2_video_predictor(config, hydra_overrides_extra=small)
    >>> found = bhk.segment_video(untrained, ".", points=[(60, 40)])  # a folder with one picture
    >>> found.masks(0).shape, found.scores.shape
    ((1, 384, 384), (1, 1))

    Args:
        model: a file or address that `bhk.load` reads, or a module that `bhk.load(..., video=True)` returns.
        clip: a folder of pictures, in the order of the numbers in their names, or a video file, for which PyAV is needed.
        points: points (x, y) on the object, in pixels of the upright frame.
        not_points: points (x, y) outside the object.
        boxes: boxes (x0, y0, x1, y1) around objects.
        texts: what to find, such as "a cup".
        separate: each point is on an object of its own, as each box is around one.
        frame: index of the frame of points and boxes, from 0.
        prompts: points and boxes in several frames, in place of all these.
        out: write the frames with the masks drawn on them to this video file (.mp4, .mov or .mkv), or to this folder.
        force: replace `out` if it exists.
        mode, compute, device, dtype, attention, verify, config, threads: see `bhk.load`. A module takes none of them.
        progress: called with ("Reading frames" | "Following" | "Drawing", frames done, all frames), and as by `bhk.load`.

    Raises:
        ClipError: the clip cannot be read, has no frames, or no such frame.
        PromptError: there are no prompts, they contradict each other, or a point or most of a box lies outside the frame.
        PredictionError, UnknownModelError: the model has no memory of earlier frames, does not take such prompts, or bhk does
            not know it.
        MissingPackageError: PyAV is missing, or the model's package.
        DeviceMemoryError: the device does not have enough memory.
        LoadOptionError: options of loading were given for a module.
        LoadError, ReadError, FormatError: see `bhk.load`.
        WriteError: `out` exists, or cannot be written.
    """
    given = (list(points), list(not_points), list(boxes), all_of(texts))
    asked = _asked(tuple(prompts), given, separate, frame)
    show = progress or silent
    with open_clip(Path(clip), show) as frames:
        if out is not None:
            check_overlay(Path(out), force=force, source=Path(clip), frames=len(frames))
        for prompt in asked:
            if prompt.text is None:
                check_frame(frames, prompt.frame)
        height, width = frames.size
        asked, notes = fit_frames(asked, width, height)
        loading = None if isinstance(model, nn.Module) else progress
        options = RunOptions(mode, compute, device, dtype, attention, verify, config, threads, loading)
        running = load_to_run(model, options, video=True)
        found = _follow(running, frames, asked, show)
        source = ClipFile(os.fspath(clip), width, height, float(frames.rate), frames.names)
        report = VideoReport(source, *found, peak_bytes(running.module), running.file, notes=(*running.notes, *notes))
        if out is None:
            return report
        write_overlay(Path(out), frames, report.masks, report.prompts, force=force, progress=show)
        return replace(report, out=os.fspath(out))


def _asked(
    prompts: tuple[ClipPrompt, ...],
    given: tuple[list[Any], list[Any], list[Any], tuple[str, ...]],
    separate: bool,
    frame: int,
) -> tuple[ClipPrompt, ...]:
    """Return the prompts in several frames, or those that points, boxes and texts are."""
    points, not_points, boxes, texts = given
    if not prompts and texts:
        if frame or separate:
            raise PromptError("a text is looked for in all frames; leave frames and separate objects out")
        named = make_prompts(points, not_points, boxes, texts, separate=separate)
        return tuple(ClipPrompt(**vars(prompt)) for prompt in named)
    if not prompts:
        marks = ([Mark(values, frame) for values in kind] for kind in (points, not_points, boxes))
        return clip_prompts(*marks, separate=separate)
    if any(given) or separate or frame:
        raise PromptError(
            "prompts in several frames have all that they need; leave other points, boxes, texts and frames out"
        )
    return checked_prompts(prompts)


def _follow(
    running: Running, clip: Clip, prompts: tuple[ClipPrompt, ...], progress: Progress
) -> tuple[tuple[ClipPrompt, ...], tuple[tuple[Runs, ...], ...], NDArray[np.float32], VideoSeconds]:
    """Return what objects answer, run lengths and scores of their masks, and the time that it took to find them."""
    module = running.module
    frames = dict[int, dict[int, tuple[Runs, float]]]()
    texts = dict[int, str]()
    started = time.perf_counter()
    height, width = clip.size
    with memory_error(module, width, height), torch.no_grad(), mixed_precision(module):
        tracker = tracker_for(module)
        check_prompts(tracker, texts=any(prompt.text is not None for prompt in prompts))
        for found in tracker.follow(clip, prompts):
            frames[found.frame] = dict(zip(found.objects, _packed(found), strict=True))
            texts |= zip(found.objects, found.texts, strict=False)
            progress("Following", len(frames), len(clip))
    seconds = VideoSeconds(running.seconds, now(module) - started)
    objects = sorted({number for masks in frames.values() for number in masks})
    unseen = np.array([height * width], np.int32), 0.0
    table = [[frames[index].get(number, unseen) for number in objects] for index in range(len(clip))]
    scores = np.array([[score for _, score in row] for row in table], np.float32).reshape(len(clip), len(objects))
    if texts:
        prompts = tuple(ClipPrompt(text=texts[number], object=place) for place, number in enumerate(objects))
    return prompts, tuple(tuple(masks for masks, _ in row) for row in table), scores, seconds


def _packed(found: FrameMasks) -> Iterator[tuple[Runs, float]]:
    """Yield run lengths and score of each mask in a frame."""
    for mask, score in zip(found.masks, found.scores.tolist(), strict=True):
        yield runs(mask).astype(np.int32), score
