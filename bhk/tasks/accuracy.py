"""How well the masks of a model match ground truth: `bhk.accuracy`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from bhk.base.hashes import sha256
from bhk.evaluation.accuracy import (
    Answer,
    ImageAccuracy,
    MaskOutput,
    ObjectPrompt,
    PromptKind,
    ShardAccuracy,
    image_accuracy,
    questions_about,
    true_objects,
    usable_detections,
)
from bhk.evaluation.accuracy_figures import Drop, PromptAccuracy, prompt_accuracy, relative_drop
from bhk.evaluation.annotations import AnnotatedImage, Annotations, ImageFile, read_annotations, resolve
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.detections import Detection, read_detections
from bhk.evaluation.faults import FaultCount, FaultKind, FaultLog
from bhk.evaluation.models import ModelSource, Subject
from bhk.evaluation.results import ModelFacts, check_same_kind, default_workers, describe, folder_digest
from bhk.evaluation.shards import run_shards, split
from bhk.hub.download import local_file
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.pictures.folder import NoPicturesError, draw
from bhk.pictures.image import ImageError, Rgb, read_image
from bhk.pictures.prompts import PromptError
from bhk.sam.prediction.predictor import PredictionError
from bhk.version import __version__

Progress = Callable[[int, int], None]

PROMPTS: tuple[ObjectPrompt, ...] = get_args(ObjectPrompt)

_SHARD = 4  # pictures


@dataclass(frozen=True)
class AccuracySettings:
    """All that the figures depend on, beside models, pictures and annotations.

    Attributes:
        prompts: how each object is asked for.
        output: whose mask counts: the "single" mask, or the best scored of the "multi" mask output.
        seed: of the choice of pictures and of the bootstrap.
        limit: at most as many pictures, drawn at random; None for all.
        device, dtype: of both models.
        mode, compute: of the compressed one; see `bhk.load`.
    """

    prompts: tuple[ObjectPrompt, ...]
    output: MaskOutput
    seed: int
    limit: int | None
    device: str
    dtype: str
    mode: str
    compute: str


@dataclass(frozen=True)
class AccuracyReport:
    """How well the masks of a model, and of its original, match ground truth.

    Attributes:
        protocol: "accuracy".
        settings: all that the figures depend on.
        model: what was evaluated.
        original: what it was compared with; None when there was nothing.
        annotations: the file or folder, as it was given.
        annotation_format: "coco", "lvis" or "sa1b".
        pictures: how many were used.
        objects: how many were asked for.
        accuracy: of the model, for each kind of prompt.
        original_accuracy: of the original; none without one.
        drops: what the model loses against the original.
        faults: what was wrong with annotations, pictures and detections, counted by kind.
    """

    protocol: str
    settings: AccuracySettings
    model: ModelFacts
    original: ModelFacts | None
    annotations: str
    annotation_format: str
    pictures: int
    objects: int
    accuracy: tuple[PromptAccuracy, ...]
    original_accuracy: tuple[PromptAccuracy, ...]
    drops: tuple[Drop, ...]
    faults: tuple[FaultCount, ...]


def accuracy(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    prompts: Sequence[ObjectPrompt] = PROMPTS,
    detections: str | os.PathLike[str] | None = None,
    output: MaskOutput = "single",
    against: str | os.PathLike[str] | None = None,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    mode: Mode = "hyper",
    compute: Compute = "exact",
    progress: Progress | None = None,
) -> AccuracyReport:
    """Ask a model for annotated objects, and measure how well its masks match.

    What is asked, and which mask counts, is said in `bhk.evaluation.accuracy`. Equal arguments give equal figures on one
    machine, whatever `workers` is.

    Args:
        model: a .bhk file, or a repository of the Hub; or a checkpoint.
        images: the folder with the annotated pictures.
        annotations: a JSON file of COCO instances or LVIS v1, or a folder of those of SA-1B; None: SA-1B's, beside the
            pictures.
        format: "coco", "lvis" or "sa1b"; None: told from the content.
        prompts: "box", "point", or both.
        detections: a JSON file of COCO results whose boxes are asked for as well; needs categories, so not for SA-1B.
        output: "single" or "multi".
        against: the checkpoint that the model was converted from, to be asked the same.
        seed: of the choice of pictures and of the bootstrap.
        limit: use at most as many pictures, drawn at random.
        workers, work_dir, device, dtype, mode, compute: see `bhk.fidelity`.
        progress: called with (pictures done, all pictures).

    Raises:
        PromptError: nothing is asked for, or by an unknown kind of prompt.
        AnnotationError: annotations or detections cannot be used as a whole; see `read_annotations`.
        NoPicturesError: there are no pictures, or none that can be used.
        DifferentModelsError: the models are not of one architecture.
        PredictionError: the model has no single mask.
        MissingPackageError: faster-coco-eval is not installed, or what the model needs.
        UnknownModelError, LoadError, ReadError, FormatError, CheckpointError: see `bhk.load`.
        NotFiniteError, WorkDirError, WorkerError, WriteError: see `bhk.fidelity`.
    """
    kinds = _checked(prompts, output, detections is not None)
    settings = AccuracySettings(kinds, output, seed, limit, device, dtype, mode, compute)
    source = Path(images if annotations is None else annotations)
    truth = read_annotations(source, images, format=format)
    log = FaultLog()
    log.add_counts(truth.faults)
    boxes = _detections(detections, truth, log)
    facts, original = describe(model), None if against is None else describe(against)
    if original is not None:
        check_same_kind(facts, original)
    chosen = draw(truth.images, limit, seed)
    work = _Work(
        str(local_file(model)), None if against is None else str(local_file(against)), settings, bool(truth.categories)
    )

    def advance(done: int, total: int) -> None:
        if progress:
            progress(min(done * _SHARD, len(chosen)), len(chosen))

    found = run_shards(
        work,
        split([_Task(image, _about(image, boxes)) for image in chosen], _SHARD),
        ShardAccuracy,
        workers=default_workers(workers, device),
        work_dir=None if work_dir is None else Path(work_dir),
        identity=_identity(settings, facts, original)
        | {
            "annotations": _digest(source),
            "detections": "" if detections is None else _digest(Path(detections)),
            "pictures": folder_digest(Path(), [image.path for image in chosen]),
        },
        progress=advance,
    )
    for shard in found:
        log.add_counts(shard.faults)
    used = [image for shard in found for image in shard.images]
    if not used:
        raise NoPicturesError(f"none of {len(chosen)} annotated pictures can be used; {_told(log.counts())}")
    asked: tuple[PromptKind, ...] = kinds if detections is None else (*kinds, "detections")
    return AccuracyReport(
        protocol="accuracy",
        settings=settings,
        model=facts,
        original=original,
        annotations=str(source),
        annotation_format=truth.format,
        pictures=len(used),
        objects=sum(not entry.crowd for image in used for entry in image.objects),
        accuracy=tuple(prompt_accuracy(used, _of_model, kind, truth, seed) for kind in asked),
        original_accuracy=tuple(prompt_accuracy(used, _of_original, kind, truth, seed) for kind in asked if original),
        drops=tuple(drop for kind in kinds if original and (drop := relative_drop(used, kind, seed))),
        faults=log.counts(),
    )


@dataclass(frozen=True)
class _Task:
    """A picture, and the boxes of a detector in it."""

    image: AnnotatedImage | ImageFile
    detections: tuple[Detection, ...]


@dataclass(frozen=True)
class _Work:
    """Asks the models about some pictures; loads them once."""

    model: str
    against: str | None
    settings: AccuracySettings
    keep_masks: bool

    @cached_property
    def _subjects(self) -> tuple[Subject, Subject | None]:
        """The model and the original."""
        settings = self.settings
        model = Subject(
            ModelSource(self.model, settings.device, settings.dtype, settings.mode, settings.compute).load()
        )
        if settings.output == "single" and not model.has_single:
            raise PredictionError(f"{self.model} has no single mask; take its multimask output")
        if self.against is None:
            return model, None
        return model, Subject(ModelSource(self.against, settings.device, settings.dtype, mode="dense").load())

    def __call__(self, shard: Sequence[_Task]) -> ShardAccuracy:
        log = FaultLog()
        found = [self._picture(task, log) for task in shard]
        return ShardAccuracy(tuple(image for image in found if image is not None), log.counts())

    def _picture(self, task: _Task, log: FaultLog) -> ImageAccuracy | None:
        image = resolve(task.image, log)
        pixels = None if image is None else _pixels(image, log)
        if image is None or pixels is None:
            return None
        objects = true_objects(image, log)
        detections = usable_detections(image, task.detections, log)
        questions = questions_about(objects, detections, self.settings.prompts)
        subjects = self._subjects
        try:
            model, original = (
                ()
                if subject is None
                else image_accuracy(subject, pixels, questions, output=self.settings.output, keep_masks=self.keep_masks)
                for subject in subjects
            )
        except PredictionError as error:
            log.add(FaultKind.UNUSABLE_PICTURE, f"{image.name}: {error}")
            return None
        return ImageAccuracy(
            image.id,
            image.height,
            image.width,
            objects,
            detections,
            model,
            original,
            image.absent,
            image.incomplete,
        )


def _pixels(image: AnnotatedImage, log: FaultLog) -> Rgb | None:
    """Return a picture, or None where it cannot be used, which is counted."""
    try:
        pixels = read_image(image.path)
    except ImageError as error:
        log.add(FaultKind.UNREADABLE_PICTURE, f"{image.name}: {error}")
        return None
    height, width, _ = pixels.shape
    if (height, width) != (image.height, image.width):
        found = f"{width} x {height} pixels, annotated {image.width} x {image.height}"
        log.add(FaultKind.OTHER_SIZE, f"{image.name}: {found}")
        return None
    return pixels


def _checked(prompts: Sequence[str], output: str, detections: bool) -> tuple[ObjectPrompt, ...]:
    """Return the kinds of prompts.

    Raises:
        PromptError: there are none, or one is unknown; or the output is.
    """
    if unknown := [kind for kind in prompts if kind not in PROMPTS]:
        raise PromptError(f"unknown kind of prompt {unknown[0]!r}; choose {', '.join(PROMPTS)}")
    if not prompts and not detections:
        raise PromptError(f"nothing is asked for; choose {', '.join(PROMPTS)}, or give detections")
    if output not in get_args(MaskOutput):
        raise PromptError(f"unknown output {output!r}; choose {', '.join(get_args(MaskOutput))}")
    return tuple(kind for kind in PROMPTS if kind in prompts)


def _detections(
    path: str | os.PathLike[str] | None, truth: Annotations, log: FaultLog
) -> Mapping[int, tuple[Detection, ...]]:
    if path is None:
        return {}
    if not truth.categories:
        raise AnnotationError("detections are measured by AP, which needs categories; these annotations have none")
    return read_detections(path, truth, log)


def _about(image: AnnotatedImage | ImageFile, boxes: Mapping[int, tuple[Detection, ...]]) -> tuple[Detection, ...]:
    return boxes.get(image.id, ()) if isinstance(image, AnnotatedImage) else ()


def _identity(settings: AccuracySettings, model: ModelFacts, original: ModelFacts | None) -> dict[str, str]:
    named = {name: str(value) for name, value in asdict(settings).items()}
    return named | {
        "protocol": "accuracy",
        "version": __version__,
        "model": model.sha256,
        "original": original.sha256 if original else "",
    }


def _digest(path: Path) -> str:
    """Return what changes with a file, or with the names and sizes of the JSON files in a folder."""
    if path.is_dir():
        return folder_digest(path, sorted(file.name for file in path.glob("*.json")))
    return sha256([path])


def _told(faults: Sequence[FaultCount]) -> str:
    return "; ".join(f"{fault.count} times {fault.kind.value} ({fault.examples[0]})" for fault in faults)


def _of_model(image: ImageAccuracy) -> tuple[Answer, ...]:
    return image.model


def _of_original(image: ImageAccuracy) -> tuple[Answer, ...]:
    return image.against
