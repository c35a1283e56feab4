"""How well the masks of a model match annotated objects: `bhk.accuracy`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import overload

from bhk.base.errors import listed, option
from bhk.base.files import FilePath
from bhk.base.hashes import sha256
from bhk.base.progress import Progress
from bhk.engines.parts import Part
from bhk.evaluation.accuracy import (
    Answer,
    ImageAccuracy,
    PromptKind,
    Question,
    Search,
    ShardAccuracy,
    image_accuracy,
    questions_about,
    searches_in,
    true_objects,
    usable_detections,
)
from bhk.evaluation.accuracy_summary import (
    AccuracySums,
    Answers,
    Drop,
    PromptAccuracy,
    precision_drop,
    precision_of,
)
from bhk.evaluation.annotations import AnnotatedImage, Annotations, ImageFile, read_annotations, resolve
from bhk.evaluation.annotations.errors import AnnotationError
from bhk.evaluation.annotations.reading import annotation_files
from bhk.evaluation.detections import Detection, read_detections
from bhk.evaluation.environment import environment
from bhk.evaluation.faults import FaultCount, FaultKind, FaultLog
from bhk.evaluation.frame import (
    Models,
    PartReport,
    Resources,
    Sources,
    Workers,
    engine_for,
    evaluate,
    find_models,
    listed_models,
)
from bhk.evaluation.models import Subject
from bhk.evaluation.places import is_remote, places_digest
from bhk.evaluation.results import AccuracyReport, EvaluatedModel
from bhk.evaluation.settings import PROMPTS, AccuracySettings, SettingsError
from bhk.evaluation.several import EvaluationReport
from bhk.hub.address import public_name
from bhk.pictures.folder import NoPicturesError, draw
from bhk.pictures.image import ImageError, Rgb
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError


@overload
def accuracy(  # type: ignore[overload-overlap]  # a str is a sequence, too
    models: FilePath,
    images: FilePath,
    annotations: FilePath | None = None,
    *,
    against: FilePath | None = None,
    format: str | None = None,
    detections: FilePath | None = None,
    settings: AccuracySettings = AccuracySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: None = None,
    progress: Progress | None = None,
) -> AccuracyReport: ...


@overload
def accuracy(
    models: Sequence[FilePath],
    images: FilePath,
    annotations: FilePath | None = None,
    *,
    against: FilePath | None = None,
    format: str | None = None,
    detections: FilePath | None = None,
    settings: AccuracySettings = AccuracySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: None = None,
    progress: Progress | None = None,
) -> EvaluationReport[AccuracyReport]: ...


@overload
def accuracy(
    models: FilePath | Sequence[FilePath],
    images: FilePath,
    annotations: FilePath | None = None,
    *,
    against: FilePath | None = None,
    format: str | None = None,
    detections: FilePath | None = None,
    settings: AccuracySettings = AccuracySettings(),
    workers: Workers = None,
    work_dir: FilePath,
    part: Part,
    progress: Progress | None = None,
) -> PartReport: ...


def accuracy(
    models: FilePath | Sequence[FilePath],
    images: FilePath,
    annotations: FilePath | None = None,
    *,
    against: FilePath | None = None,
    format: str | None = None,
    detections: FilePath | None = None,
    settings: AccuracySettings = AccuracySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: Part | None = None,
    progress: Progress | None = None,
) -> AccuracyReport | EvaluationReport[AccuracyReport] | PartReport:
    """Prompt models for annotated objects and measure how well their masks match them.

    A model gets the box and the innermost point of every object (`settings.prompts`), and the boxes of a detector if there
    are any. Crowds get no prompts. Its single mask counts, or the multi-mask output that it scores best (`settings.output`).
    With the prompt "text", SAM 3 is asked for each category that a picture has, by its name, and all that it finds counts.
    Equal arguments give equal results on one machine, whatever `workers` is. Needs the package
    faster-coco-eval.

    >>> import json
    >>> import bhk
    >>> square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[90, 90, 290, 90, 290, 290, 90, 290]]}
    >>> image = {"id": 1, "file_name": "photo.jpg", "width": 384, "height": 384}
    >>> coco = {"images": [image], "categories": [{"id": 1, "name": "square"}], "annotations": [square]}
    >>> with open("annotations.json", "w") as file:
    ...     json.dump(coco, file)
    >>> report = bhk.accuracy("demo_sam.bhk", ".", "annotations.json", workers=1)
    >>> report.pictures, report.objects, [found.prompt for found in report.accuracy]
    (1, 1, ['box', 'point'])

    Args:
        models: a .bhk file, here or on the Hub, or a checkpoint; or several, for which the original is only run once.
        images: the folder with the annotated pictures, or tar archives in it; or one such archive.
        annotations: a JSON file of COCO instances or LVIS v1, or a folder or a tar archive of SA-1B's files. None: SA-1B's
            files, beside the pictures.
        against: the checkpoint that the models were converted from, to measure it as well.
        format: "coco", "lvis" or "sa1b"; None: recognised by the content.
        detections: a JSON file of COCO results whose boxes are used as prompts, too. Needs categories, so not with SA-1B.
        settings: prompts, output, pictures, device and data type.
        workers, work_dir, part, progress: see `bhk.fidelity`.

    Returns:
        A report; for a list of models, an `EvaluationReport` with one for each; for a part, a `PartReport`.

    Raises:
        SettingsError: there is nothing to prompt with.
        AnnotationError: the annotations or the detections cannot be used at all, or have no names of categories.
        NoPicturesError: there are no pictures, or none can be used.
        DifferentModelsError: the models do not have the same architecture as the original.
        PredictionError: a model has no single-mask output, or takes no such prompts.
        MissingTokenizerError: the tokenizer that texts need is not beside a model's weights.
        MissingPackageError: faster-coco-eval, or the package that the model comes from, is not installed.
        UnknownModelError, LoadError, HubError, ReadError, FormatError, CheckpointError: see `bhk.load`.
        NotFiniteError, WorkDirError, MissingResultsError, WorkerError, ClusterError, WriteError: see `bhk.fidelity`.
    """
    if not settings.prompts and detections is None:
        raise SettingsError(
            f"there is nothing to prompt with; choose {option('prompts')} from {listed(PROMPTS)}, "
            f"or give {option('detections')}"
        )
    engine_for(workers, str(settings.device))  # can the device be used?
    resources = Resources(workers, work_dir, part, progress)
    source = images if annotations is None else annotations
    truth = read_annotations(source, images, format=format)
    log = FaultLog()
    log.add_counts(truth.faults)
    boxes = _detections(detections, truth, log)
    texts = _texts(truth) if "text" in settings.prompts else {}
    evaluated = find_models(listed_models(models), against, settings.config)
    kinds: tuple[PromptKind, ...] = settings.prompts if detections is None else (*settings.prompts, "detections")
    chosen = draw(truth.images, settings.limit, settings.seed)
    shards = evaluate(
        _Work(evaluated.sources(settings), settings, kinds, texts, keep_masks=bool(truth.categories)),
        [_Picture(image, _detections_in(image, boxes)) for image in chosen],
        ShardAccuracy,
        models=evaluated,
        settings=settings,
        inputs={
            "annotations": _digest(source),
            "detections": "" if detections is None else sha256(Path(detections)),
            "pictures": places_digest([image.picture for image in chosen]),
        },
        resources=resources,
    )
    if isinstance(shards, PartReport):
        return shards
    collected = _collected(shards, kinds, evaluated, log, keep=bool(truth.categories))
    if not collected.pictures:
        raise NoPicturesError(f"no annotated picture can be used, of {len(chosen)} tried; {_listed(log.counts())}")
    reports = _reports(settings, evaluated, source, truth, collected, log.counts())
    return reports[0] if isinstance(models, str | os.PathLike) else EvaluationReport(reports)


@dataclass(frozen=True)
class _Picture:
    """A picture to evaluate, and the boxes of a detector in it."""

    image: AnnotatedImage | ImageFile
    detections: tuple[Detection, ...]


@dataclass(frozen=True)
class _Work:
    """Prompts the models about some pictures; loads the models once."""

    sources: Sources
    settings: AccuracySettings
    kinds: tuple[PromptKind, ...]
    texts: Mapping[int, str]
    keep_masks: bool

    @cached_property
    def _subjects(self) -> tuple[tuple[Subject, ...], Subject | None]:
        """The models and the original."""
        original = self.sources.original
        models = tuple(Subject(source.load()) for source in self.sources.models)
        for model, source in zip(models, self.sources.models, strict=True):
            _check_prompts(model, source.path, self.kinds)
            if self.settings.output == "single" and "single" not in model.outputs:
                raise PredictionError(f"{source.path} has no single-mask output; use {option('output', 'multi')}")
        return models, None if original is None else Subject(original.load())

    def __call__(self, shard: Sequence[_Picture]) -> ShardAccuracy:
        log = FaultLog()
        found = [self._picture(picture, log) for picture in shard]
        return ShardAccuracy(tuple(image for image in found if image is not None), log.counts())

    def _picture(self, picture: _Picture, log: FaultLog) -> ImageAccuracy | None:
        image = resolve(picture.image, log)
        pixels = None if image is None else _pixels(image, log)
        if image is None or pixels is None:
            return None
        objects = true_objects(image, log)
        detections = usable_detections(image, picture.detections, log)
        questions: tuple[Question | Search, ...] = (
            *questions_about(objects, detections, self.settings.prompts),
            *searches_in(objects, self.texts),
        )
        models, original = self._subjects

        def answers(subject: Subject) -> tuple[Answer, ...]:
            return image_accuracy(subject, pixels, questions, output=self.settings.output, keep_masks=self.keep_masks)

        try:
            found = tuple(map(answers, models))
            expected = () if original is None else answers(original)
        except MissingTokenizerError:
            raise
        except PredictionError as error:
            log.add(FaultKind.UNUSABLE_PICTURE, f"{image.name}: {error}")
            return None
        return ImageAccuracy(
            image=image.id,
            height=image.height,
            width=image.width,
            objects=objects if self.keep_masks else tuple(replace(entry, mask=None) for entry in objects),
            detections=detections,
            models=found,
            against=expected,
            absent=image.absent,
            incomplete=image.incomplete,
        )


def _check_prompts(model: Subject, path: str, kinds: Sequence[PromptKind]) -> None:
    if "text" in kinds:
        model.check(texts=True)
    if set(kinds) != {"text"}:
        try:
            model.check(texts=False)
        except PredictionError as error:
            raise PredictionError(
                f"{path} finds objects by a text, not by points or boxes; use {option('prompts', 'text')}, which asks for the "
                "names of categories"
            ) from error


def _texts(truth: Annotations) -> dict[int, str]:
    """Return the text of each category."""
    nameless = [str(category.id) for category in truth.categories if not category.text]
    if nameless or not truth.categories:
        found = f"categories without one: {listed(nameless)}" if nameless else "these annotations have no categories"
        raise AnnotationError(f"{option('prompts', 'text')} needs the names of categories; {found}")
    return {category.id: category.text for category in truth.categories}


def _pixels(image: AnnotatedImage, log: FaultLog) -> Rgb | None:
    """Return the pixels of a picture; None if it cannot be used, which is counted in `log`."""
    try:
        pixels = image.picture.pixels()
    except ImageError as error:
        log.add(FaultKind.UNREADABLE_PICTURE, f"{image.name}: {error}")
        return None
    height, width, _ = pixels.shape
    if (height, width) != (image.height, image.width):
        found = f"{width} x {height} pixels, annotated {image.width} x {image.height}"
        log.add(FaultKind.OTHER_SIZE, f"{image.name}: {found}")
        return None
    return pixels


def _detections(
    path: str | os.PathLike[str] | None, truth: Annotations, log: FaultLog
) -> Mapping[int, tuple[Detection, ...]]:
    if path is None:
        return {}
    if not truth.categories:
        raise AnnotationError("detections are measured by AP, which needs categories; these annotations have none")
    return read_detections(path, truth, log)


def _detections_in(
    image: AnnotatedImage | ImageFile, detections: Mapping[int, tuple[Detection, ...]]
) -> tuple[Detection, ...]:
    return detections.get(image.id, ()) if isinstance(image, AnnotatedImage) else ()


def _digest(source: FilePath) -> str:
    """Return a hash that changes with a file, or with the names and sizes of the JSON files in a folder or an archive."""
    files = annotation_files(source).files
    is_file = not is_remote(source) and Path(source).is_file() and files[0].length is None
    return sha256(Path(source)) if is_file else places_digest(files)


def _listed(faults: Sequence[FaultCount]) -> str:
    return "; ".join(f"{fault.count} × {fault.kind.value} ({fault.examples[0]})" for fault in faults)


@dataclass
class _Collected:
    """What reports need of all pictures.

    Attributes:
        models, original: the sums of each model and of the original, for each kind of prompt.
        pictures: number of pictures used.
        objects: number of objects in them that are no crowds.
        images: the results with all masks, which AP needs; empty without categories.
    """

    models: tuple[dict[PromptKind, AccuracySums], ...]
    original: dict[PromptKind, AccuracySums]
    pictures: int = 0
    objects: int = 0
    images: list[ImageAccuracy] = field(default_factory=list)


def _collected(
    shards: Iterable[ShardAccuracy], kinds: Sequence[PromptKind], models: Models, log: FaultLog, *, keep: bool
) -> _Collected:
    """Go through the results once, and count the faults in `log`."""
    found = _Collected(
        tuple({kind: AccuracySums(kind) for kind in kinds} for _ in models.models),
        {kind: AccuracySums(kind) for kind in (kinds if models.original else ())},
    )
    for shard in shards:
        log.add_counts(shard.faults)
        found.pictures += len(shard.images)
        found.images += shard.images if keep else ()
        for image in shard.images:
            found.objects += sum(not entry.crowd for entry in image.objects)
            for sums, answers in ((found.original, image.against), *zip(found.models, image.models, strict=True)):
                for some in sums.values():
                    some.add(image, answers)
    return found


def _reports(
    settings: AccuracySettings,
    models: Models,
    source: FilePath,
    truth: Annotations,
    found: _Collected,
    faults: tuple[FaultCount, ...],
) -> tuple[AccuracyReport, ...]:
    def summary(sums: Mapping[PromptKind, AccuracySums], answers: Answers) -> tuple[PromptAccuracy, ...]:
        return tuple(
            of_kind.accuracy(precision_of(found.images, answers, kind, truth), seed=settings.seed)
            for kind, of_kind in sums.items()
        )

    def drops(sums: Mapping[PromptKind, AccuracySums], answers: Answers) -> tuple[Drop, ...]:
        every = (
            sums[kind].drop(
                original, precision_drop(found.images, answers, kind, truth, seed=settings.seed), seed=settings.seed
            )
            for kind, original in found.original.items()
        )
        return tuple(drop for drop in every if drop is not None)

    original_accuracy = summary(found.original, lambda image: image.against)
    place = environment(str(settings.device))

    def report(number: int, model: EvaluatedModel) -> AccuracyReport:
        def answers(image: ImageAccuracy) -> tuple[Answer, ...]:
            return image.models[number]

        return AccuracyReport(
            settings=settings,
            model=model,
            original=models.original,
            annotations=public_name(source),
            annotation_format=truth.format,
            pictures=found.pictures,
            objects=found.objects,
            accuracy=summary(found.models[number], answers),
            original_accuracy=original_accuracy,
            drops=drops(found.models[number], answers),
            faults=faults,
            environment=place,
        )

    return tuple(report(number, model) for number, model in enumerate(models.models))
