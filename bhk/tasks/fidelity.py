"""How closely the masks of a compressed model match those of its original: `bhk.fidelity`."""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import overload

from bhk.base.files import FilePath
from bhk.base.progress import Progress
from bhk.engines.parts import Part
from bhk.engines.shards import KeptResults
from bhk.evaluation.environment import environment
from bhk.evaluation.fidelity import ImageFidelity, PictureFidelity, ask, compared, joined
from bhk.evaluation.fidelity_summary import FidelitySums
from bhk.evaluation.following import Follower, compare_followers
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
from bhk.evaluation.places import Place, find_places, places_digest
from bhk.evaluation.results import FidelityReport, Skipped
from bhk.evaluation.settings import FidelitySettings
from bhk.evaluation.several import EvaluationReport
from bhk.pictures.clip import Beginning, open_clip
from bhk.pictures.folder import NoPicturesError, draw
from bhk.pictures.image import ImageError
from bhk.pictures.prompt_grid import grid_prompts
from bhk.pictures.prompts import Prompt, make_prompts
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError


@overload
def fidelity(  # type: ignore[overload-overlap]  # a str is a sequence, too
    models: FilePath,
    images: FilePath,
    *,
    against: FilePath,
    settings: FidelitySettings = FidelitySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: None = None,
    progress: Progress | None = None,
) -> FidelityReport: ...


@overload
def fidelity(
    models: Sequence[FilePath],
    images: FilePath,
    *,
    against: FilePath,
    settings: FidelitySettings = FidelitySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: None = None,
    progress: Progress | None = None,
) -> EvaluationReport[FidelityReport]: ...


@overload
def fidelity(
    models: FilePath | Sequence[FilePath],
    images: FilePath,
    *,
    against: FilePath,
    settings: FidelitySettings = FidelitySettings(),
    workers: Workers = None,
    work_dir: FilePath,
    part: Part,
    progress: Progress | None = None,
) -> PartReport: ...


def fidelity(
    models: FilePath | Sequence[FilePath],
    images: FilePath,
    *,
    against: FilePath,
    settings: FidelitySettings = FidelitySettings(),
    workers: Workers = None,
    work_dir: FilePath | None = None,
    part: Part | None = None,
    progress: Progress | None = None,
) -> FidelityReport | EvaluationReport[FidelityReport] | PartReport:
    """Compare the masks of compressed models with those of their original, on pictures without annotations.

    All models get the same prompts, points and boxes spread over each picture. Of several masks for a prompt, the one that
    the original scores best is compared with the other models' masks of the same index; for boxes, the single masks are
    compared as well. With `settings.texts`, SAM 3 is asked for all objects that they name; each is compared with the one whose
    mask is most like it. With `settings.follow`, the prompts are about the first frame of a clip, and the masks of their
    objects are compared in every frame. Equal arguments give equal results on one machine, whatever `workers` is.

    >>> import bhk
    >>> settings = bhk.FidelitySettings(points=2, boxes=1, limit=1, control=False)
    >>> report = bhk.fidelity("demo_sam.bhk", ".", against="demo_sam.safetensors", settings=settings, workers=1)
    >>> report.fidelity.all.iou_mean.value > 0.9
    True

    Args:
        models: a .bhk file, here or on the Hub, or a checkpoint; or several, for which the original is only run once.
        images: a folder; pictures in it, in its subfolders and in tar archives there are used. Or such an archive. With
            `settings.follow`, a clip: a folder of frames or a video file.
        against: the checkpoint that the models were converted from.
        settings: prompts, pictures, device and data type.
        workers: number of processes, each of which loads all models. None: 1 on a GPU, on a CPU one per core but at most 4.
            With more than 1, scripts need `if __name__ == "__main__":`. Or a Ray cluster, a `bhk.Ray`. Or 0, to compute nothing
            and merge the results of all parts in `work_dir`.
        work_dir: a folder that keeps intermediate results, to continue after an interruption. The report reads its `images`
            from there, so keep the folder until the report is saved.
        part: compute only this part, such as `bhk.Part(2, 8)`, into `work_dir`, which all parts share.
        progress: called with ("Evaluating", pictures done, all pictures), or objects of a clip.

    Returns:
        A report; for a list of models, an `EvaluationReport` with one for each; for a part, a `PartReport`.

    Raises:
        NoPicturesError: there are no pictures, or none can be used.
        ClipError: the clip cannot be read.
        PredictionError: the models take no texts, or nothing else; or a model cannot follow objects.
        MissingTokenizerError: the tokenizer that texts need is not beside a model's weights.
        DifferentModelsError: the models do not have the same architecture as the original.
        UnknownModelError, LoadError, HubError, ReadError, FormatError, CheckpointError: see `bhk.load`.
        NotFiniteError: a model returned NaN or infinity.
        WorkDirError: `work_dir` holds results of other work.
        MissingResultsError: results are to be merged, but some are missing.
        WorkerError: a worker process failed.
        ClusterError: the Ray cluster cannot be used.
        WriteError: `work_dir` cannot be written.
    """
    engine_for(workers, str(settings.device))  # can the device be used?
    resources = Resources(workers, work_dir, part, progress)
    folder, damaged = Path(images), list[Skipped]()
    found = find_models(listed_models(models), against, settings.config)
    run = partial(evaluate, models=found, settings=settings, resources=resources)
    if settings.follow:
        names, prompts, digest = _clip(folder, settings)
        follow = _FollowWork(str(folder), names, found.sources(settings, video=True), settings)
        objects = run(follow, prompts, list[ComparedPicture], inputs={"clip": digest})
        if isinstance(objects, PartReport):
            return objects
        pictures: Collection[Iterable[ComparedPicture]] = [_side_by_side(list(objects))]
    else:
        places = find_places(images)
        chosen = draw(places.files, settings.limit, settings.seed)
        look = _Work(found.sources(settings), settings)
        shards = run(look, list(enumerate(chosen)), list[ComparedPicture], inputs={"pictures": places_digest(chosen)})
        if isinstance(shards, PartReport):
            return shards
        pictures = shards
        damaged = [Skipped(part.name, part.reason) for part in places.damaged]
    reports = _reports(settings, found, pictures, damaged)
    return reports[0] if isinstance(models, str | os.PathLike) else EvaluationReport(reports)


@dataclass(frozen=True)
class _Work:
    """Compares the models on some pictures, given with their numbers; loads the models once."""

    sources: Sources
    settings: FidelitySettings

    @cached_property
    def _subjects(self) -> tuple[Subject, tuple[Subject, ...], Subject | None]:
        """The original, the models, and the original in bfloat16."""
        original = self.sources.original
        assert original is not None
        control = replace(original, dtype="bfloat16")
        first = Subject(original.load())
        first.check(texts=bool(self.settings.texts))
        return (
            first,
            tuple(Subject(model.load()) for model in self.sources.models),
            Subject(control.load()) if self.settings.control else None,
        )

    def __call__(self, shard: Sequence[tuple[int, Place]]) -> list[ComparedPicture]:
        return [self._picture(number, place) for number, place in shard]

    def _picture(self, number: int, place: Place) -> ComparedPicture:
        original, models, control = self._subjects
        settings = self.settings
        try:
            pixels = place.pixels()
            height, width, _ = pixels.shape
            seed = settings.seed, number
            spread = () if settings.texts else grid_prompts(width, height, seed, settings.points, settings.boxes)
            prompts = spread or make_prompts(texts=settings.texts)
            expected = ask(original, pixels, prompts)
            return ComparedPicture(
                place.name,
                tuple(compared(expected, ask(model, pixels, prompts)) for model in models),
                compared(expected, ask(control, pixels, prompts)) if control else None,
            )
        except MissingTokenizerError:
            raise
        except (ImageError, PredictionError) as error:
            return ComparedPicture(place.name, reason=str(error))


def _clip(path: Path, settings: FidelitySettings) -> tuple[tuple[str, ...], tuple[Prompt, ...], str]:
    """Return the names of a clip's frames, the prompts in the first, and a digest that changes with its files."""
    with open_clip(path) as clip:
        height, width = clip.size
        prompts = grid_prompts(width, height, (settings.seed, 0), settings.points, settings.boxes)
        files = [Place(name, str(path / name)) for name in clip.names or ()]
        digest = places_digest(files or [Place(path.name, str(path))])
        names = clip.names or tuple(f"frame {index}" for index in range(len(clip)))
    return names[: settings.limit], prompts, digest


@dataclass(frozen=True)
class _FollowWork:
    """Compares the models on the objects of some prompts in all frames of a clip; loads the models once."""

    path: str
    names: tuple[str, ...]
    sources: Sources
    settings: FidelitySettings

    @cached_property
    def _followers(self) -> tuple[Follower, ...]:
        """The original, the models, and the original in bfloat16 if it is the control."""
        original = self.sources.original
        assert original is not None
        control = (replace(original, dtype="bfloat16"),) if self.settings.control else ()
        return tuple(Follower(source.load()) for source in (original, *self.sources.models, *control))

    def __call__(self, prompts: Sequence[Prompt]) -> list[ComparedPicture]:
        original, *others = self._followers
        count = len(self.sources.models)
        with open_clip(Path(self.path)) as clip:
            frames = compare_followers(original, others, Beginning(clip, len(self.names)), prompts)
            return [
                ComparedPicture(name, found[:count], found[count] if self.settings.control else None)
                for name, found in zip(self.names, frames, strict=True)
            ]


def _side_by_side(shards: Sequence[Sequence[ComparedPicture]]) -> list[ComparedPicture]:
    """Return the results for each frame, given those of some objects in all frames, and those of others, …."""
    return [
        ComparedPicture(
            frame[0].name,
            tuple(map(joined, zip(*(part.models for part in frame), strict=True))),
            None if frame[0].control is None else joined([part.control for part in frame if part.control]),
        )
        for frame in zip(*shards, strict=True)
    ]


@dataclass(frozen=True)
class ComparedPicture:
    """The result for one picture: each model compared with the original, and the control; see `PictureFidelity`."""

    name: str
    models: tuple[ImageFidelity, ...] = ()
    control: ImageFidelity | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ComparedPictures(Collection[PictureFidelity]):
    """The results of one model for all pictures used, taken from those of all models whenever they are gone through.

    Attributes:
        shards: the results of all models, for all pictures.
        model: number of the model.
        count: number of pictures used.
    """

    shards: Collection[Iterable[ComparedPicture]] = field(repr=False)
    model: int
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[PictureFidelity]:
        for shard in self.shards:
            for picture in shard:
                if picture.reason is None:
                    yield PictureFidelity(picture.name, picture.models[self.model], picture.control)

    def __contains__(self, picture: object) -> bool:
        return any(found == picture for found in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Collection) and len(self) == len(other) and all(map(operator.eq, self, other))


def _reports(
    settings: FidelitySettings,
    models: Models,
    shards: Collection[Iterable[ComparedPicture]],
    damaged: Sequence[Skipped],
) -> tuple[FidelityReport, ...]:
    original = models.original
    assert original is not None
    skipped, used = [], 0
    sums, control = [FidelitySums() for _ in models.models], FidelitySums()
    for picture in itertools.chain.from_iterable(shards):
        if picture.reason is not None:
            skipped.append(Skipped(picture.name, picture.reason))
            continue
        used += 1
        for some, found in zip(sums, picture.models, strict=True):
            some.add(found)
        if picture.control is not None:
            control.add(picture.control)
    skipped += damaged
    if not used:
        raise NoPicturesError(
            f"no picture can be used, of {len(skipped)} tried; {skipped[0].name}: {skipped[0].reason}"
        )
    control_fidelity = control.summary(seed=settings.seed) if settings.control else None
    place = environment(str(settings.device))
    images = [ComparedPictures(shards, number, used) for number in range(len(sums))]
    return tuple(
        FidelityReport(
            settings=settings,
            model=model,
            original=original,
            pictures=used,
            fidelity=sums[number].summary(seed=settings.seed),
            control=control_fidelity,
            skipped=tuple(skipped),
            images=images[number] if isinstance(shards, KeptResults) else list(images[number]),
            environment=place,
        )
        for number, model in enumerate(models.models)
    )
