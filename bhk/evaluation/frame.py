"""The frame that evaluations share: which models they compare, and running over pictures in worker processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import torch

from bhk.base.errors import BhkError
from bhk.base.files import FilePath
from bhk.base.hashes import sha256
from bhk.base.parallel import worker_count
from bhk.base.progress import Progress
from bhk.container.header import ModelEntry
from bhk.container.reader import Container, is_bhk
from bhk.evaluation.models import ModelSource
from bhk.evaluation.results import EvaluatedModel
from bhk.evaluation.settings import EvaluationSettings, SettingsError
from bhk.evaluation.shards import run_shards, split
from bhk.hub.address import public_name
from bhk.hub.download import local_file
from bhk.nn.device import usable_device
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import Config
from bhk.sam.load import model_entry
from bhk.sam.variants import title_of
from bhk.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")

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


def evaluate(
    work: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    result: type[Result],
    *,
    models: Models,
    settings: EvaluationSettings,
    inputs: Mapping[str, str],
    workers: int | None,
    work_dir: FilePath | None,
    progress: Progress | None,
) -> list[Result]:
    """Return `work(shard)` for every few items, in order; see `run_shards`.

    Args:
        work: loads the models and evaluates a few items, one per picture.
        items: the pictures.
        result: the type of the results.
        models, settings, inputs: what the results depend on; `inputs` are digests of the data, by name.
        workers: see `worker_processes`.
        work_dir: a folder that keeps the results, to continue after an interruption.
        progress: called with ("Evaluating", pictures done, all pictures).

    Raises:
        WorkDirError: the folder holds results of other work.
        WorkerError: a worker process failed.
        WriteError: the folder cannot be written.
    """

    def advance(done: int, total: int) -> None:
        if progress:
            progress("Evaluating", min(done * _SHARD, len(items)), len(items))

    named = {name: str(value) for name, value in asdict(settings).items()}
    fingerprint = {
        "version": __version__,
        "protocol": type(settings).__name__,
        "models": ", ".join(model.sha256 for model in models.models),
        "original": models.original.sha256 if models.original else "",
        **named,
        **inputs,
    }
    return run_shards(
        work,
        split(items, _SHARD),
        result,
        workers=worker_processes(workers, str(settings.device)),
        work_dir=None if work_dir is None else Path(work_dir),
        fingerprint=fingerprint,
        advance=advance,
    )


def worker_processes(workers: int | None, device: str) -> int:
    """Return `workers`; for None, 1 on a GPU, and on a CPU one per core but at most 4.

    Raises:
        LoadOptionError: the device cannot be used.
        ThreadsError: `workers` is not positive.
    """
    if workers is None and usable_device(device) != torch.device("cpu"):
        return 1
    count = worker_count(workers)
    return count if workers else min(count, _CPU_WORKERS)


def folder_digest(folder: Path, names: Sequence[str]) -> str:
    """Return a SHA-256 that changes when files of a folder change their names or sizes."""
    sizes = [(name, _size(folder / name)) for name in names]
    return hashlib.sha256(msgspec.json.encode(sizes)).hexdigest()


def _size(path: Path) -> int | None:
    """Return the size of a file; None if there is none, such as behind a broken link, which is reported on reading."""
    try:
        return path.stat().st_size
    except OSError:
        return None


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
    return _evaluated(name, checkpoint.source.files, recognised.entry, None)


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


def _check_same_architecture(model: EvaluatedModel, original: EvaluatedModel) -> None:
    if (model.family, model.arguments) == (original.family, original.arguments):
        return
    kinds = [found.title or found.family for found in (model, original)]
    if kinds[0] == kinds[1]:
        kinds = [f"{kind} of sizes {found.arguments}" for kind, found in zip(kinds, (model, original), strict=True)]
    raise DifferentModelsError(
        f"{model.path} holds another model ({kinds[0]}) than {original.path} ({kinds[1]}); "
        "give the checkpoint that it was converted from"
    )
