"""The frame that evaluations share: which models they compare, and running over pictures in worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch

from bhk.base.errors import BhkError, option
from bhk.base.files import FilePath
from bhk.base.hashes import sha256
from bhk.base.parallel import worker_count
from bhk.base.progress import Progress
from bhk.base.report import Report
from bhk.base.texts import counted
from bhk.container.header import ModelEntry
from bhk.container.reader import Container, is_bhk
from bhk.engines.engine import Engine
from bhk.engines.parts import Part
from bhk.engines.processes import Processes
from bhk.engines.ray_cluster import Ray
from bhk.engines.shards import run_part, run_shards, split
from bhk.evaluation.models import ModelSource
from bhk.evaluation.results import EvaluatedModel
from bhk.evaluation.settings import EvaluationSettings, SettingsError
from bhk.hub.address import public_name
from bhk.hub.download import local_file
from bhk.nn.device import usable_device
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import Config
from bhk.sam.load import model_entry
from bhk.sam.variants import VARIANTS, title_of
from bhk.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")
Workers: TypeAlias = int | Ray | None

_CPU_WORKERS = 4  # at most; each process holds all models
_SHARD = 4  # pictures that a process gets at a time


class DifferentModelsError(BhkError):
    """The two models do not have the same architecture, so comparing them would say nothing."""


@dataclass(frozen=True)
class Sources:
    """How a worker process loads the models of an evaluation, and their original; None without one."""

    models: tuple[ModelSource, ...]
    original: ModelSource | None


@dataclass(frozen=True)
class Models:
    """The models of an evaluation, and their original.

    Attributes:
        models: the models.
        original: the original; None without one.
        files: the files of the models on this machine.
        original_file: that of the original.
    """

    models: tuple[EvaluatedModel, ...]
    original: EvaluatedModel | None
    files: tuple[Path, ...]
    original_file: Path | None

    def sources(self, settings: EvaluationSettings, *, video: bool = False) -> Sources:
        """Return how a worker process loads them, for clips if `video`."""
        source = partial(
            ModelSource,
            device=str(settings.device),
            dtype=str(settings.dtype),
            attention=settings.attention,
            config=settings.config,
            video=video,
        )
        return Sources(
            tuple(source(str(file), mode=settings.mode, compute=settings.compute) for file in self.files),
            None if self.original_file is None else source(str(self.original_file), mode="dense"),
        )


def listed_models(models: FilePath | Sequence[FilePath]) -> tuple[FilePath, ...]:
    """Return one or several models as a tuple.

    Raises:
        SettingsError: there are none.
    """
    every = (models,) if isinstance(models, str | os.PathLike) else tuple(models)
    if not every:
        raise SettingsError("there is no model to evaluate; give at least one")
    return every


def find_models(models: Sequence[FilePath], against: FilePath | None, config: Config | None = None) -> Models:
    """Find out which models files hold.

    Args:
        models: .bhk files, here or on the Hub, or checkpoints.
        against: the original, likewise; None without one.
        config: their configuration; see `bhk.load`.

    Raises:
        ConfigurationError: `config` is none, or one of another model.
        HubError, ReadError, FormatError, CheckpointError: a file cannot be read.
        UnknownModelError: a file does not hold a whole Segment Anything model.
        DifferentModelsError: they do not have the same architecture as the original.
    """
    files, original_file = tuple(map(local_file, models)), None if against is None else local_file(against)
    found = tuple(_described(public_name(model), file, config) for model, file in zip(models, files, strict=True))
    original = None
    if against is not None and original_file is not None:
        original = _described(public_name(against), original_file, config)
    if original is not None:
        for model in found:
            _check_same_architecture(model, original)
    return Models(found, original, files, original_file)


@dataclass(frozen=True)
class Resources:
    """Who computes an evaluation, where its results are kept, and who is told.

    Attributes:
        workers: see `engine_for`.
        work_dir: a folder that keeps the results, to continue after an interruption.
        part: compute only this part, into the folder.
        progress: called with ("Evaluating", pictures done, all pictures).
    """

    workers: Workers
    work_dir: FilePath | None
    part: Part | None
    progress: Progress | None

    def __post_init__(self) -> None:
        if self.part is not None and self.work_dir is None:
            raise SettingsError(f"a part needs {option('work_dir')}, a folder that all parts share")
        if self.part is not None and self.workers == 0:
            raise SettingsError("parts cannot be computed and merged at once")


def evaluate(
    work: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    result: type[Result],
    *,
    models: Models,
    settings: EvaluationSettings,
    inputs: Mapping[str, str],
    resources: Resources,
) -> Collection[Result] | PartReport:
    """Return `work(shard)` for every few items, in order; see `run_shards`. Of a part, only return what was computed.

    Args:
        work: loads the models and evaluates a few items, one per picture.
        items: the pictures.
        result: the type of the results.
        models, settings, inputs: what the results depend on; `inputs` are digests of the data, by name.
        resources: who computes it.

    Raises:
        MissingResultsError: there are no workers, and results are missing.
        WorkDirError: the folder holds results of other work.
        WorkerError, ClusterError: a worker failed, or the cluster cannot be used.
        WriteError: the folder cannot be written.
    """

    def advance(done: int, total: int) -> None:
        if resources.progress:
            resources.progress("Evaluating", min(done * _SHARD, len(items)), min(total * _SHARD, len(items)))

    engine, shards = engine_for(resources.workers, str(settings.device)), split(items, _SHARD)
    work_dir = None if resources.work_dir is None else Path(resources.work_dir)
    fingerprint = _fingerprint(models, settings, inputs)
    if resources.part is None or work_dir is None or engine is None:
        return run_shards(
            work, shards, result, engine=engine, work_dir=work_dir, fingerprint=fingerprint, advance=advance
        )
    part = resources.part
    done = run_part(work, shards, part, engine=engine, work_dir=work_dir, fingerprint=fingerprint, advance=advance)
    return PartReport(str(part), sum(len(shards[index]) for index in done), len(items), work_dir)


def _fingerprint(models: Models, settings: EvaluationSettings, inputs: Mapping[str, str]) -> dict[str, str]:
    return {
        "version": __version__,
        "torch": str(torch.__version__),
        "protocol": type(settings).__name__,
        "models": ", ".join(model.sha256 for model in models.models),
        "original": models.original.sha256 if models.original else "",
        **{name: str(value) for name, value in asdict(settings).items()},
        **inputs,
    }


@dataclass(frozen=True)
class PartReport(Report):
    """What `bhk.fidelity` and `bhk.accuracy` return for a part of an evaluation; the results are in the work folder.

    Attributes:
        part: the part, such as "2/8".
        pictures: number of its pictures.
        all_pictures: number of pictures of all parts.
        work_dir: the folder.
    """

    part: str
    pictures: int
    all_pictures: int
    work_dir: Path

    @property
    def hints(self) -> tuple[str, ...]:
        """How to go on."""
        return (f"when all parts have ended, the same call with {option('workers', 0)} gives the result",)

    def lines(self) -> Iterator[str]:
        """Yield what was computed."""
        yield f"part {self.part}: {self.pictures:,} of {counted(self.all_pictures, 'picture')}, in {self.work_dir}"


def engine_for(workers: Workers, device: str) -> Engine | None:
    """Return what computes an evaluation.

    Args:
        workers: a number of processes; None for 1 on a GPU, and on a CPU one per core but at most 4; a Ray cluster; or 0 for
            nothing, because all has been computed.
        device: where the models will be.

    Raises:
        LoadOptionError: this machine computes, and cannot use the device.
        ThreadsError: `workers` is negative.
    """
    if workers == 0:
        return None
    if isinstance(workers, Ray):
        return replace(workers, gpus=1) if torch.device(device).type == "cuda" and not workers.gpus else workers
    place = usable_device(device)
    if workers is None and place != torch.device("cpu"):
        return Processes(1)
    count = worker_count(workers)
    return Processes(count if workers else min(count, _CPU_WORKERS))


def _described(name: str, path: Path, config: Config | None) -> EvaluatedModel:
    if not is_bhk(path):
        return _checkpoint(name, path, config)
    with Container.open(path) as container:
        source = container.header.metadata.get("source.sha256")
        entry = model_entry(container, config)
    return replace(_evaluated(name, (path,), entry, container.ratio), source_sha256=source)


def _checkpoint(name: str, path: Path, config: Config | None) -> EvaluatedModel:
    checkpoint, recognised = read_checkpoint(path, config=config)
    if recognised is None or recognised.fault is not None:
        reason = f", because {recognised.fault}" if recognised else ""
        raise UnknownModelError(f"{path} holds no Segment Anything model that bhk can build{reason}")
    return replace(_evaluated(name, checkpoint.source.files, recognised.entry, None), note=recognised.note)


def _evaluated(name: str, files: Sequence[Path], entry: ModelEntry, ratio: float | None) -> EvaluatedModel:
    return EvaluatedModel(
        path=name,
        sha256=sha256(files),
        bytes=sum(file.stat().st_size for file in files),
        family=entry.family,
        variant=entry.variant,
        title=title_of(entry),
        arguments=entry.arguments,
        ratio=ratio,
    )


def _way(model: EvaluatedModel) -> str | None:
    """Return the variant as which pictures are prepared, where its authors do that in another way."""
    variant = VARIANTS.get(model.variant or "")
    return variant.name if variant is not None and variant.prepares else None


def _check_same_architecture(model: EvaluatedModel, original: EvaluatedModel) -> None:
    if (model.family, model.arguments, _way(model)) == (original.family, original.arguments, _way(original)):
        return
    kinds = [found.title or found.family for found in (model, original)]
    if kinds[0] == kinds[1]:
        kinds = [f"{kind} of sizes {found.arguments}" for kind, found in zip(kinds, (model, original), strict=True)]
    raise DifferentModelsError(
        f"{model.path} holds another model ({kinds[0]}) than {original.path} ({kinds[1]}); "
        "give the checkpoint that it was converted from"
    )
