"""Which preset for this model: sizes, errors and masks of several, side by side: `bhk.compare`."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from bhk.base.files import check_destination, replace_file
from bhk.base.packages import MissingPackageError
from bhk.codec.error import decibels
from bhk.codec.fit import PRESETS, PresetError, check_snr, find_preset
from bhk.conversion.quality import Quality
from bhk.evaluation.fidelity import Agreement, Fidelity, ask, compared, summarise
from bhk.evaluation.models import Subject
from bhk.evaluation.results import ComparedReport, Skipped
from bhk.file.bhkfile import load_state_dict
from bhk.pictures.folder import NoPicturesError, find_pictures
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.pictures.masks import Mask, bounding_box, innermost_point
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt
from bhk.pictures.scenes import HELD_OUT, make_scene
from bhk.reports.comparison import Mark, check_figure, draw_comparison
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.load import load
from bhk.sam.prediction.predictor import PredictionError
from bhk.tasks.convert import convert

Progress = Callable[[int, int], None]

DEFAULT = ("birkhoff", "small", "balanced", "fine")
LIMIT = 16  # pictures
POINTS, BOXES = 16, 8  # prompts a picture
SCENES, SCENE_SIZE = 8, 512  # made where no pictures are given; pixels of a side

Pictures = Sequence[tuple[Rgb, tuple[Prompt, ...]]]


@dataclass(frozen=True)
class Choice:
    """What a preset makes of the model.

    Attributes:
        name: of the preset, or the signal-to-noise ratio that was asked for.
        source_bytes: of the dense tensors.
        bytes: size of the .bhk file.
        ratio: how many times smaller it is than the dense tensors.
        lowest_snr_db: of the tensor that is coded worst; None where none is coded.
        snr_db: of all coded tensors together; None where none is coded.
        points: IoU with the original's masks of points, the best of the multimask output; None when not measured.
        boxes: the same of boxes, the single masks where the model has them.
        convert_seconds: wall time.
        load_seconds: wall time of building the model from the file; of reading its tensors where bhk builds none.
    """

    name: str
    source_bytes: int
    bytes: int
    ratio: float
    lowest_snr_db: float | None
    snr_db: float | None
    points: Agreement | None
    boxes: Agreement | None
    convert_seconds: float
    load_seconds: float


@dataclass(frozen=True)
class Comparison(ComparedReport):
    """What several presets make of a model.

    Attributes:
        original: the checkpoint.
        choices: one a preset, in the order asked for.
        pictures: how many the masks are of.
        made: whether they are procedural scenes; else they are the user's.
        no_masks: why no masks were compared; None when they were.
        skipped: pictures that could not be used.
        seed: of the choice of pictures, of prompts and of the bootstrap.
    """

    protocol: ClassVar[str] = "comparison"

    original: str
    choices: tuple[Choice, ...]
    pictures: int
    made: bool
    no_masks: str | None
    skipped: tuple[Skipped, ...]
    seed: int


def compare(
    original: str | os.PathLike[str],
    *,
    presets: Iterable[str | float] = DEFAULT,
    images: str | os.PathLike[str] | None = None,
    plot: str | os.PathLike[str] | None = None,
    limit: int = LIMIT,
    seed: int = 0,
    device: str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Convert a checkpoint with several presets, and see how small it becomes and how its masks change.

    The files are temporary. Pictures are asked about points and boxes all over them; where none are given, procedural
    scenes of known objects are asked about, by a point on each and by its box.

    Args:
        presets: names of presets, or signal-to-noise ratios in dB.
        images: a folder; pictures in it and below it are used.
        plot: draw masks against ratio and write it: .svg, .png.
        limit: use at most as many pictures of the folder, drawn at random.
        seed: of the choice of pictures, of prompts and of the bootstrap.
        device: where masks are computed.
        force: replace `plot` if it exists.
        progress: called with (steps done, all steps).

    Raises:
        PresetError: a preset is unknown or out of reach, or none is given.
        CheckpointError: the original cannot be read.
        NoPicturesError: there are no pictures in the folder, or none that can be used.
        UnknownModelError, PredictionError: with `images`, a model that is not of the family; without, `no_masks` says so.
        MissingPackageError: a package is missing: as before, or matplotlib for `plot`.
        WriteError: `plot` exists and `force` is false, or cannot be written.
    """
    asked = _asked(presets)
    if plot is not None:
        check_figure(Path(plot))
        check_destination(Path(plot), force=force, sources=(Path(original),))
    names = find_pictures(Path(images), limit=limit, seed=seed) if images is not None else ()
    subject, no_masks = _subject(original, device, required=images is not None)
    pictures, skipped = _read(Path(images), names, seed) if images is not None else (_scenes(seed), ())
    trial = _Trial(original, _powers(original), subject, pictures if subject else (), device, seed)
    choices = [
        trial.measure(name, quality, progress and partial(_advance, progress, number, len(asked)))
        for number, (name, quality) in enumerate(asked.items())
    ]
    if plot is not None:
        with replace_file(Path(plot), force=force) as file:
            draw_comparison([_mark(choice) for choice in choices], Path(original).name, file, Path(plot).suffix)
    return Comparison(
        original=os.fspath(original),
        choices=tuple(choices),
        pictures=len(trial.pictures),
        made=images is None,
        no_masks=no_masks,
        skipped=skipped,
        seed=seed,
    )


def _advance(progress: Progress, before: int, rounds: int, done: int, total: int) -> None:
    """Report the progress of one of several rounds, after some before it."""
    progress(before * total + done, rounds * total)


def _mark(choice: Choice) -> Mark:
    masks = {"points": choice.points, "boxes": choice.boxes}
    return Mark(
        choice.name,
        choice.ratio,
        choice.snr_db,
        {kind: (found.iou_mean.value, found.iou_percentile) for kind, found in masks.items() if found is not None},
    )


def _asked(presets: Iterable[str | float]) -> dict[str, Quality]:
    """Return the quality of each preset, by its name."""
    asked: dict[str, Quality] = {}
    for preset in presets:
        try:
            snr = check_snr(float(preset))
        except ValueError:
            asked[find_preset(str(preset)).name] = Quality(str(preset))
        else:
            asked[f"{snr:g} dB"] = Quality(snr_db=snr)
    if not asked:
        raise PresetError(f"no presets to compare; choose from {', '.join(PRESETS)}, or give ratios in dB")
    return asked


def _subject(
    original: str | os.PathLike[str], device: str, *, required: bool
) -> tuple[Subject, None] | tuple[None, str]:
    """Return the original to be asked for masks, or why it cannot be; raise that when masks are `required`."""
    try:
        return Subject(load(original, device=device)), None
    except (UnknownModelError, PredictionError, MissingPackageError) as error:
        if required:
            raise
        return None, str(error)


def _read(folder: Path, names: Iterable[str], seed: int) -> tuple[Pictures, tuple[Skipped, ...]]:
    """Return pictures of a folder, with prompts all over them, and those that cannot be read."""
    pictures, skipped = [], []
    for number, name in enumerate(names):
        try:
            pixels = read_image(folder / name)
        except ImageError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        height, width, _ = pixels.shape
        pictures.append((pixels, grid_prompts(width, height, (seed, number), POINTS, BOXES)))
    if not pictures:
        raise NoPicturesError(f"none of {len(skipped)} pictures can be read; {skipped[0].name}: {skipped[0].reason}")
    return pictures, tuple(skipped)


def _scenes(seed: int) -> Pictures:
    """Return procedural scenes, with a point on each object and its box."""
    scenes = [make_scene(HELD_OUT + seed * SCENES + number, SCENE_SIZE) for number in range(SCENES)]
    return [(scene.picture, tuple(prompt for mask in scene.masks for prompt in _prompts(mask))) for scene in scenes]


def _prompts(mask: Mask) -> tuple[Prompt, Prompt]:
    return Prompt(points=(innermost_point(mask),)), Prompt(box=bounding_box(mask))


def _powers(original: str | os.PathLike[str]) -> dict[str, float]:
    """Return the sum of the squares of each floating tensor of a checkpoint, by all its names."""
    checkpoint, _ = read_checkpoint(original)
    return {
        name: float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
        for stored, tensor in checkpoint.tensors.items()
        if tensor.is_floating_point()
        for name in (stored, *checkpoint.aliases.get(stored, ()))
    }


@dataclass(frozen=True)
class _Trial:
    """What every preset is tried on.

    Attributes:
        powers: sums of squares of the original's tensors.
        subject: the original; None when masks are not compared.
    """

    original: str | os.PathLike[str]
    powers: Mapping[str, float]
    subject: Subject | None
    pictures: Pictures
    device: str
    seed: int

    def measure(self, name: str, quality: Quality, progress: Progress | None) -> Choice:
        """Convert, load, and compare masks."""
        with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
            path = Path(folder) / "model.bhk"
            report = convert(self.original, path, quality)
            started = time.perf_counter()
            model = load_state_dict(path) if self.subject is None else load(path, device=self.device)
            load_seconds = time.perf_counter() - started
            masks = self._masks(model, progress) if isinstance(model, nn.Module) else None
        coded = [(layer.name, layer.error.snr_db) for layer in report.layers if layer.error is not None]
        return Choice(
            name=name,
            source_bytes=report.source_bytes,
            bytes=report.bytes,
            ratio=report.ratio,
            lowest_snr_db=min((math.inf if snr is None else snr for _, snr in coded), default=None),
            snr_db=self._overall_snr(coded) if coded else None,
            points=masks.points if masks else None,
            boxes=(masks.single or masks.boxes) if masks else None,
            convert_seconds=report.seconds,
            load_seconds=load_seconds,
        )

    def _masks(self, model: nn.Module, progress: Progress | None) -> Fidelity:
        assert self.subject is not None
        other, found = Subject(model), []
        for number, (pixels, prompts) in enumerate(self.pictures, start=1):
            found.append(compared(ask(self.subject, pixels, prompts), ask(other, pixels, prompts)))
            if progress:
                progress(number, len(self.pictures))
        return summarise(found, seed=self.seed)

    def _overall_snr(self, coded: Iterable[tuple[str, float | None]]) -> float:
        """Return the ratio of powers of all coded tensors together; None as that of one tensor: no error."""
        signal = noise = 0.0
        for name, snr in coded:
            signal += self.powers[name]
            noise += 0.0 if snr is None else self.powers[name] * 10 ** (-snr / 10)
        return decibels(signal, noise)
