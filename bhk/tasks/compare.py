"""Which preset for this model? Sizes, errors and masks of several, side by side: `bhk.compare`."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from bhk.base.errors import option
from bhk.base.files import check_destination, replace_file
from bhk.base.packages import MissingPackageError
from bhk.base.progress import Progress, silent
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number, size
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.tokenizer import tokenizer_files
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.error import decibels
from bhk.codec.fit import PRESETS, PresetError
from bhk.codec.shape import CODED_DTYPES
from bhk.conversion.quality import Quality
from bhk.evaluation.environment import Environment, environment
from bhk.evaluation.fidelity import ask, compared
from bhk.evaluation.fidelity_summary import Agreement, Fidelity, summarise
from bhk.evaluation.files import Record, RecordColumn
from bhk.evaluation.models import Subject
from bhk.evaluation.records import COMPARISON_COLUMNS, INTERVALS, spread
from bhk.evaluation.report import GENERATOR, ComparedReport
from bhk.evaluation.results import Skipped
from bhk.file.bhkfile import load_state_dict
from bhk.hub.address import public_name
from bhk.nn.device import Device, usable_device
from bhk.pictures.folder import NoPicturesError, find_pictures, replaced_pictures
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.pictures.masks import Mask, bounding_box, innermost_point
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt, all_of, make_prompts
from bhk.pictures.scenes import HELD_OUT, make_scene
from bhk.reports.comparison import Mark, check_figure, draw_comparison
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import Config
from bhk.sam.load import dense_model, load
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.recognise import Recognised
from bhk.tasks.convert import convert
from bhk.version import __version__

DEFAULT = ("birkhoff", "small", "balanced", "fine")
LIMIT = 16  # pictures
POINTS, BOXES = 16, 8  # prompts per picture
SCENES, SCENE_SIZE = 8, 512  # made if no pictures are given; pixels of a side

Pictures = Sequence[tuple[Rgb, tuple[Prompt, ...]]]

_COLUMNS = (
    Column("quality", "left"),
    Column("size", rank=1),
    Column("ratio"),
    Column("SNR dB"),
    Column("lowest", rank=3, meaning="SNR of the worst tensor"),
    Column("convert", rank=4),
    Column("load", rank=5),
)
_REACHED = Column("99 % reach", rank=2, meaning="the lowest IoU apart from the worst 1 % of the masks")
_KINDS = ("points", "boxes", "texts")  # of prompts; the names of the fields of `Choice`


@dataclass(frozen=True)
class Choice:
    """What a model becomes at one quality.

    >>> torch.save({"weight": torch.randn(512, 512)}, "layer.pth")
    >>> choice = bhk.compare("layer.pth", ["balanced"]).choices[0]
    >>> choice.name, choice.points is None  # this is not a model that predicts masks
    ('balanced', True)

    Attributes:
        name: the preset, or what was asked for instead, such as "30 dB".
        source_bytes: bytes of the dense tensors.
        bytes: size of the .bhk file.
        ratio: how many times smaller the file is than the dense tensors.
        float32_ratio: how many times smaller it is than the dense tensors in float32.
        lowest_snr_db: signal-to-noise ratio of the worst coded tensor; None if none is coded.
        snr_db: signal-to-noise ratio of all coded tensors together; None if none is coded.
        points: agreement with the original's masks for points, the best of each multimask output; None if not measured.
        boxes: the same for boxes, with single masks if the model has them.
        texts: the same for the objects that texts name.
        convert_seconds: wall time of the conversion.
        load_seconds: wall time of building the model from the file, or of reading its tensors if bhk cannot build it.
    """

    name: str
    source_bytes: int
    bytes: int
    ratio: float
    float32_ratio: float
    lowest_snr_db: float | None
    snr_db: float | None
    points: Agreement | None
    boxes: Agreement | None
    texts: Agreement | None
    convert_seconds: float
    load_seconds: float

    @property
    def masks(self) -> dict[str, Agreement]:
        """The agreement for each kind of prompt that was asked."""
        found = {kind: getattr(self, kind) for kind in _KINDS}
        return {kind: agreement for kind, agreement in found.items() if agreement is not None}


@dataclass(frozen=True)
class ComparisonReport(ComparedReport):
    """What a model becomes at several qualities.

    Attributes:
        original: the checkpoint, as it was given.
        choices: one entry per quality, in the order asked for.
        pictures: number of pictures that masks were compared on.
        made: whether the pictures are procedural scenes rather than the user's.
        no_masks: why no masks were compared; None if they were.
        skipped: pictures that could not be used.
        note: what was assumed about the original; None if nothing was.
        seed: what pictures, prompts and bootstrap were drawn with.
        environment: what the results were measured with.
    """

    protocol: ClassVar[str] = "comparison"

    original: str
    choices: tuple[Choice, ...]
    pictures: int
    made: bool
    no_masks: str | None
    skipped: tuple[Skipped, ...]
    note: str | None
    seed: int
    environment: Environment

    @property
    def hints(self) -> tuple[str, ...]:
        """What was assumed about the original, and the pictures that could not be used."""
        skipped = (f"skipped {picture.name}: {picture.reason}" for picture in self.skipped)
        return tuple(filter(None, (self.note, *skipped)))

    def lines(self) -> Iterator[str | Table]:
        """Yield a table with a row per quality, and what the masks were compared on."""
        kinds = [kind for kind in _KINDS if any(kind in choice.masks for choice in self.choices)]
        masks = [column for kind in kinds for column in (Column(f"{kind} IoU"), _REACHED)]
        yield Table([*_COLUMNS, *masks], [_row(choice, kinds) for choice in self.choices])
        as_float32 = self.choices[0].float32_ratio / self.choices[0].ratio
        if as_float32 != 1:
            yield f"ratios against float32 are {as_float32:.2f} times as large"
        if self.no_masks is not None:
            yield f"masks were not compared: {self.no_masks}"
        elif self.made:
            yield f"masks of {counted(self.pictures, 'synthetic scene')}; compare on pictures of your own to be sure"
        else:
            yield f"masks of {counted(self.pictures, 'picture')}"

    @property
    def columns(self) -> Sequence[RecordColumn]:
        """The entries of the records that a short table shows."""
        return COMPARISON_COLUMNS

    def records(self) -> Iterator[Record]:
        """Yield a row for each quality; see `ComparedReport.records`."""
        for choice in self.choices:
            row: Record = {"quality": choice.name, "bytes": choice.bytes, "times_smaller": choice.ratio}
            row["times_smaller_than_float32"] = choice.float32_ratio
            row |= {"snr_db": choice.snr_db, "lowest_snr_db": choice.lowest_snr_db}
            for kind in _KINDS:
                found = choice.masks.get(kind)
                row |= spread(f"{kind}_iou", found.iou_mean if found else None)
                row[f"{kind}_iou_first_percentile"] = found.iou_percentile if found else None
            row |= {"convert_seconds": choice.convert_seconds, "load_seconds": choice.load_seconds}
            row |= {"original": Path(self.original).name, "pictures": self.pictures, "seed": self.seed}
            yield row | {"bhk": __version__} | asdict(self.environment)

    def notes(self) -> Iterator[str]:
        """Yield what the report was measured on and with."""
        kind = "synthetic scene" if self.made else "picture"
        yield f"{Path(self.original).name}, masks of {counted(self.pictures, kind)}; {INTERVALS}"
        yield f"seed {self.seed}; {GENERATOR}, {self.environment.described}"


def _row(choice: Choice, kinds: Sequence[str]) -> list[str]:
    cells = [
        choice.name,
        size(choice.bytes),
        number(choice.ratio),
        number(choice.snr_db, 1),
        number(choice.lowest_snr_db, 1),
        number(choice.convert_seconds, 1, " s"),
        number(choice.load_seconds, 1, " s"),
    ]
    return cells + [cell for kind in kinds for cell in _mask_cells(choice.masks.get(kind))]


def _mask_cells(found: Agreement | None) -> list[str]:
    return ["–", "–"] if found is None else [number(found.iou_mean.value, 4), number(found.iou_percentile, 4)]


def compare(
    original: str | os.PathLike[str],
    qualities: str | Quality | Iterable[str | Quality] = DEFAULT,
    *,
    images: str | os.PathLike[str] | None = None,
    texts: str | Iterable[str] = (),
    limit: int = LIMIT,
    plot: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: Device = "cpu",
    config: Config | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ComparisonReport:
    """Convert a checkpoint at several qualities, and measure how small it becomes and how its masks change.

    The .bhk files are temporary. Masks are compared for points and boxes spread over the pictures; without pictures, for a
    point on each object of procedural scenes and for its box. With `texts`, SAM 3 is asked for all objects that they name.

    >>> torch.save({"weight": torch.randn(512, 512)}, "layer.pth")
    >>> report = bhk.compare("layer.pth", ["small", bhk.Quality(snr_db=30)])
    >>> [(choice.name, round(choice.ratio)) for choice in report.choices]
    [('small', 8), ('30 dB', 6)]
    >>> report.no_masks is None  # a checkpoint of a Segment Anything model has masks to compare
    False

    Args:
        original: a checkpoint, as `bhk.convert` takes it.
        qualities: names of presets, or `bhk.Quality` objects; one or several.
        images: a folder; pictures in it and below it are used.
        texts: what to find in the pictures, such as "a cup", in place of points and boxes.
        limit: use at most this many pictures of the folder, drawn at random.
        plot: a .pdf, .svg or .png file to draw masks against ratio in.
        seed: for drawing pictures, prompts and the bootstrap.
        device: where masks are computed, such as "cuda".
        config: the configuration of the original; see `bhk.convert`.
        force: replace `plot` if it exists.
        progress: called with ("Comparing " and the quality, pictures done, all pictures).

    Raises:
        PromptError: a text is empty.
        PresetError: a preset is unknown, a quality is out of reach, or none is given.
        CheckpointError: the original cannot be read.
        NoPicturesError: the folder has no pictures, or none that can be used.
        UnknownModelError, PredictionError: with `images` or `texts`, bhk cannot build the model, or it predicts no masks for
            such prompts. Without both, the report says so.
        MissingPackageError: a package is missing: the model's (see above), or matplotlib for `plot`.
        WriteError: `plot` exists and `force` is false, or cannot be written.
    """
    named, asked = _named(qualities), make_prompts(texts=texts) if (texts := all_of(texts)) else ()
    if plot is not None:
        check_figure(Path(plot))
        check_destination(Path(plot), force=force, sources=(Path(original), *replaced_pictures(images, plot)))
    place = usable_device(device)
    names = find_pictures(Path(images), limit=limit, seed=seed) if images is not None else ()
    checkpoint, recognised = read_checkpoint(original, config=config)
    subject, no_masks = _subject(
        Path(original), checkpoint, recognised, place, texts=bool(asked), required=images is not None or bool(asked)
    )
    pictures, skipped = _read(Path(images), names, seed) if images is not None else (_scenes(seed), ())
    if asked:
        pictures = [(pixels, asked) for pixels, _ in pictures]
    shown, tokenizer = pictures if subject else (), _tokenizer(checkpoint) if asked else ()
    trial = _Trial(original, config, _powers(checkpoint), subject, shown, tokenizer, place, seed)
    choices = [trial.measure(name, quality, progress or silent) for name, quality in named]
    if plot is not None:
        with replace_file(Path(plot), force=force) as file:
            draw_comparison(
                [_mark(choice) for choice in choices], Path(public_name(original)).name, file, Path(plot).suffix
            )
    return ComparisonReport(
        original=public_name(original),
        choices=tuple(choices),
        pictures=len(trial.pictures),
        made=images is None,
        no_masks=no_masks,
        skipped=skipped,
        note=None if recognised is None else recognised.note,
        seed=seed,
        environment=environment(str(place)),
    )


def _tokenizer(checkpoint: Checkpoint) -> tuple[Path, ...]:
    source = checkpoint.source
    return tokenizer_files(source.inputs[-1], source.name) if source.files else ()


def _mark(choice: Choice) -> Mark:
    masks = {kind: (found.iou_mean.value, found.iou_percentile) for kind, found in choice.masks.items()}
    return Mark(choice.name, choice.ratio, choice.snr_db, masks)


def _named(qualities: str | Quality | Iterable[str | Quality]) -> list[tuple[str, Quality]]:
    """Return each quality with its name in the table."""
    if isinstance(qualities, (str, Quality)):
        qualities = (qualities,)
    named = []
    for given in qualities:
        quality = Quality(given) if isinstance(given, str) else given
        named.append((quality.asked, quality))
    if not named:
        raise PresetError(
            f"there is nothing to compare; give {option('qualities')}, such as {' and '.join(list(PRESETS)[:2])}"
        )
    return named


def _subject(
    path: Path,
    checkpoint: Checkpoint,
    recognised: Recognised | None,
    device: torch.device,
    *,
    texts: bool,
    required: bool,
) -> tuple[Subject, None] | tuple[None, str]:
    """Return the original, ready to be asked for masks, or the reason why it cannot be; raise that if `required`."""
    try:
        subject = Subject(dense_model(checkpoint, recognised, path).to(device=device, dtype=torch.float32))
        subject.check(texts=texts)
        return subject, None
    except (UnknownModelError, PredictionError, MissingPackageError) as error:
        if required:
            raise
        return None, str(error)


def _read(folder: Path, names: Iterable[str], seed: int) -> tuple[Pictures, tuple[Skipped, ...]]:
    """Return the pictures of a folder with prompts spread over them, and those that cannot be read."""
    pictures, skipped = [], []
    for index, name in enumerate(names):
        try:
            pixels = read_image(folder / name)
        except ImageError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        height, width, _ = pixels.shape
        pictures.append((pixels, grid_prompts(width, height, (seed, index), POINTS, BOXES)))
    if not pictures:
        raise NoPicturesError(
            f"no picture can be read, of {len(skipped)} tried; {skipped[0].name}: {skipped[0].reason}"
        )
    return pictures, tuple(skipped)


def _scenes(seed: int) -> Pictures:
    """Return procedural scenes with a point on each object and the box around it."""
    scenes = [make_scene(HELD_OUT + seed * SCENES + number, SCENE_SIZE) for number in range(SCENES)]
    return [(scene.picture, tuple(prompt for mask in scene.masks for prompt in _prompts(mask))) for scene in scenes]


def _prompts(mask: Mask) -> tuple[Prompt, Prompt]:
    return Prompt(points=(innermost_point(mask),)), Prompt(box=bounding_box(mask))


def _powers(checkpoint: Checkpoint) -> dict[str, float]:
    """Return the sum of squares of each tensor that may be coded, under all its names."""
    return {
        name: float(torch.linalg.vector_norm(checkpoint.values(stored), dtype=torch.float64)) ** 2
        for stored, tensor in checkpoint.tensors.items()
        if DTYPE_NAMES.get(tensor.dtype) in CODED_DTYPES
        for name in (stored, *checkpoint.aliases.get(stored, ()))
    }


@dataclass(frozen=True)
class _Trial:
    """What each quality is tried on.

    Attributes:
        original: the checkpoint.
        config: its configuration; None for what is found.
        powers: tensor name -> sum of squares of the original's tensor.
        subject: the original; None if masks are not compared.
        pictures: pictures with prompts.
        tokenizer: the files of the original's tokenizer, which texts need.
        device: where masks are computed.
        seed: for the bootstrap.
    """

    original: str | os.PathLike[str]
    config: Config | None
    powers: Mapping[str, float]
    subject: Subject | None
    pictures: Pictures
    tokenizer: tuple[Path, ...]
    device: torch.device
    seed: int

    def measure(self, name: str, quality: Quality, progress: Progress) -> Choice:
        """Convert the original, load the file, and compare masks."""
        with tempfile.TemporaryDirectory(prefix="bhk-") as folder:
            path = Path(folder) / "model.bhk"
            for file in self.tokenizer:
                shutil.copy(file, folder)
            report = convert(self.original, path, quality, config=self.config)
            started = time.perf_counter()
            model = load_state_dict(path) if self.subject is None else load(path, device=self.device)
            load_seconds = time.perf_counter() - started
            masks = self._masks(model, f"Comparing {name}", progress) if isinstance(model, nn.Module) else None
        coded = [(layer.name, layer.error.snr_db) for layer in report.layers if layer.error is not None]
        return Choice(
            name=name,
            source_bytes=report.source_bytes,
            bytes=report.bytes,
            ratio=report.ratio,
            float32_ratio=report.float32_ratio,
            lowest_snr_db=min((math.inf if snr is None else snr for _, snr in coded), default=None),
            snr_db=self._overall_snr(coded) if coded else None,
            points=masks.points if masks else None,
            boxes=(masks.single or masks.boxes) if masks else None,
            texts=masks.texts if masks else None,
            convert_seconds=report.seconds,
            load_seconds=load_seconds,
        )

    def _masks(self, model: nn.Module, stage: str, progress: Progress) -> Fidelity:
        assert self.subject is not None
        other, found = Subject(model), []
        for done, (pixels, prompts) in enumerate(self.pictures, start=1):
            found.append(compared(ask(self.subject, pixels, prompts), ask(other, pixels, prompts)))
            progress(stage, done, len(self.pictures))
        return summarise(found, seed=self.seed)

    def _overall_snr(self, coded: Iterable[tuple[str, float | None]]) -> float:
        """Return the signal-to-noise ratio of all coded tensors together; a tensor with None has no error."""
        signal = noise = 0.0
        for name, snr in coded:
            signal += self.powers[name]
            noise += 0.0 if snr is None else self.powers[name] * 10 ** (-snr / 10)
        return decibels(signal, noise)
