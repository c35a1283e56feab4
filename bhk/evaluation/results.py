"""What evaluations have in common: the models they compare, the pictures they leave out, and their results as a file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch

from bhk.base.errors import BhkError
from bhk.base.files import replace_file
from bhk.base.hashes import sha256
from bhk.base.names import BHK_SUFFIX
from bhk.base.parallel import worker_count
from bhk.checkpoint import AlreadyBhkError
from bhk.container.header import ModelEntry
from bhk.container.reader import Container
from bhk.hub.download import local_file
from bhk.nn.loading import usable_device
from bhk.sam.build import UnknownModelError
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.load import model_entry
from bhk.sam.variants import title_of
from bhk.version import __version__

FORMAT = "bhk-evaluation"
VERSION = 1

_CPU_WORKERS = 4  # each holds all models


class DifferentModelsError(BhkError):
    """Two models that are not of one architecture, so that nothing is to be learnt from comparing them."""


@dataclass(frozen=True)
class ModelFacts:
    """Which model was evaluated.

    Attributes:
        path: of the file, as it was given.
        sha256: of its bytes; of several files, one after the other.
        bytes: its size.
        family: its architecture and layout, such as "sam".
        variant: name of the published model of these sizes; None where there is none.
        title: what people call it; None where there is no name.
        arguments: its sizes.
        ratio: how many times smaller the file is than the dense tensors in it; None for a checkpoint.
        source_sha256: of what it was made from, as far as the file tells.
    """

    path: str
    sha256: str
    bytes: int
    family: str
    variant: str | None
    title: str | None
    arguments: dict[str, Any]
    ratio: float | None
    source_sha256: str | None = None


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out.

    Attributes:
        name: its path from the folder.
        reason: why, in one line.
    """

    name: str
    reason: str


def describe(model: str | os.PathLike[str]) -> ModelFacts:
    """Return which model a .bhk file, on this machine or the Hub, or a checkpoint holds.

    Raises:
        HubError, ReadError, FormatError, CheckpointError: it cannot be read.
        UnknownModelError: it is no whole model of the family.
    """
    path = local_file(model)
    if path.suffix != BHK_SUFFIX:
        with contextlib.suppress(AlreadyBhkError):
            return _checkpoint(os.fspath(model), path)
    with Container.open(path) as container:
        ratio = sum(layer.dense_bytes for layer in container.layers) / container.source.length
        source = container.header.metadata.get("source.sha256")
    return replace(_facts(os.fspath(model), (path,), model_entry(path), ratio), source_sha256=source)


def _checkpoint(name: str, path: Path) -> ModelFacts:
    checkpoint, recognised = read_checkpoint(path)
    if recognised is None or recognised.architecture is None:
        raise UnknownModelError(f"{path} is no whole model of the Segment Anything family; only such can be evaluated")
    return _facts(name, checkpoint.source.files, recognised.entry, None)


def _facts(name: str, files: Sequence[Path], entry: ModelEntry, ratio: float | None) -> ModelFacts:
    return ModelFacts(
        path=name,
        sha256=sha256(files),
        bytes=sum(file.stat().st_size for file in files),
        family=entry.family,
        variant=entry.variant,
        title=title_of(entry.family, entry.variant),
        arguments=entry.arguments,
        ratio=ratio,
    )


def check_same_kind(model: ModelFacts, original: ModelFacts) -> None:
    """Check that two models are of one architecture.

    Raises:
        DifferentModelsError: they are not.
    """
    if (model.family, model.arguments) == (original.family, original.arguments):
        return
    kinds = [facts.title or facts.family for facts in (model, original)]
    if kinds[0] == kinds[1]:
        kinds = [f"{kind} of sizes {facts.arguments}" for kind, facts in zip(kinds, (model, original), strict=True)]
    raise DifferentModelsError(
        f"{model.path} holds a model of another kind ({kinds[0]}) than {original.path} ({kinds[1]}); "
        "give the checkpoint that it was converted from"
    )


def default_workers(workers: int | None, device: str) -> int:
    """Return `workers`; for None, one on a GPU, and on a CPU one a core, at most four: each holds all models.

    Raises:
        LoadOptionError: the device cannot be used.
        ThreadsError: `workers` is not positive.
    """
    if workers is None and usable_device(device) != torch.device("cpu"):
        return 1
    count = worker_count(workers)
    return count if workers else min(count, _CPU_WORKERS)


def folder_digest(folder: Path, names: Sequence[str]) -> str:
    """Return a SHA-256 that is another when pictures of a folder have other names or sizes."""
    sizes = [(name, _size(folder / name)) for name in names]
    return hashlib.sha256(msgspec.json.encode(sizes)).hexdigest()


def _size(path: Path) -> int | None:
    """Return the bytes of a file; None where there is none, such as of a broken link, which reading it will tell."""
    try:
        return path.stat().st_size
    except OSError:
        return None


class Report(Protocol):
    """A dataclass with the result of an evaluation.

    Attributes:
        protocol: "fidelity" or "accuracy".
    """

    @property
    def protocol(self) -> str:
        """Which evaluation it is the result of."""


def document(report: Report) -> dict[str, Any]:
    """Return a result as JSON values.

    Every document has `format` ("bhk-evaluation"), `version` (1; another when a reader of this one would misread it),
    `generator` ("bhk" and its version) and `protocol`; the other keys are the fields of the report, by their names, and
    in them those of its parts. An interval is {"value", "low", "high"}; figures that are not numbers, such as the
    interval of a single picture, are null.
    """
    return msgspec.json.decode(_encoded(report))  # type: ignore[no-any-return]


def write_document(report: Report, path: Path, *, force: bool = False) -> None:
    """Write `document(report)` to a file.

    Raises:
        WriteError: it exists and `force` is false, or cannot be written.
    """
    with replace_file(path, force=force) as file:
        file.write(msgspec.json.format(_encoded(report), indent=2))


def _encoded(report: Report) -> bytes:
    envelope = {"format": FORMAT, "version": VERSION, "generator": f"bhk {__version__}"}
    return msgspec.json.encode(envelope | msgspec.to_builtins(report))
