"""What `bhk eval --out` wrote, as far as a card shows it."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath
from typing import Literal

import msgspec

from bhk.base.errors import BhkError, shown

FORMAT = "bhk-evaluation"
VERSION = 1


class EvaluationDocumentError(BhkError):
    """A file is no result of `bhk eval`, or of another model than the one that is published."""


class Interval(msgspec.Struct, frozen=True):
    """A figure and the ends of its 95 % interval; None for what is no number."""

    value: float | None
    low: float | None
    high: float | None


class Agreement(msgspec.Struct, frozen=True):
    """How closely masks of a group of prompts agree; see `bhk.evaluation.fidelity.Agreement`."""

    masks: int
    iou_mean: Interval
    iou_min: float
    faithful: Interval
    boundary_iou: Interval


class Fidelity(msgspec.Struct, frozen=True):
    """How closely a model answers as its original; see `bhk.evaluation.fidelity.Fidelity`."""

    points: Agreement | None
    boxes: Agreement | None
    single: Agreement | None
    all: Agreement
    embedding_cosine: Interval
    embedding_cosine_min: float


class Precision(msgspec.Struct, frozen=True):
    """Average precision of masks; see `bhk.evaluation.average_precision.Precision`."""

    ap: float | None


class PromptAccuracy(msgspec.Struct, frozen=True):
    """How well masks match; see `bhk.evaluation.accuracy_figures.PromptAccuracy`."""

    prompt: Literal["box", "point", "detections"]
    masks: int
    miou: Interval | None
    precision: Precision | None


class Drop(msgspec.Struct, frozen=True):
    """What a model loses against its original; see `bhk.evaluation.accuracy_figures.Drop`."""

    prompt: Literal["box", "point", "detections"]
    miou: Interval


class Subject(msgspec.Struct, frozen=True):
    """Which model was asked; see `bhk.evaluation.results.ModelFacts`."""

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the path; others would tell of the machine that it was on."""
        return PureWindowsPath(self.path).name


class FidelitySettings(msgspec.Struct, frozen=True):
    """What figures of fidelity depend on; see `bhk.tasks.fidelity.FidelitySettings`."""

    points: int
    boxes: int
    dtype: str
    compute: Literal["exact", "int8"]


class AccuracySettings(msgspec.Struct, frozen=True):
    """What figures of accuracy depend on; see `bhk.tasks.accuracy.AccuracySettings`."""

    output: Literal["single", "multi"]
    dtype: str
    compute: Literal["exact", "int8"]


class FidelityResult(msgspec.Struct, frozen=True, tag_field="protocol", tag="fidelity"):
    """A result of `bhk eval MODEL --against ORIGINAL`; see `bhk.tasks.fidelity.FidelityReport`."""

    generator: str
    settings: FidelitySettings
    model: Subject
    original: Subject
    pictures: int
    fidelity: Fidelity
    control: Fidelity | None


class AccuracyResult(msgspec.Struct, frozen=True, tag_field="protocol", tag="accuracy"):
    """A result of `bhk eval MODEL --annotations FILE`; see `bhk.tasks.accuracy.AccuracyReport`."""

    generator: str
    settings: AccuracySettings
    model: Subject
    original: Subject | None
    annotations: str
    annotation_format: Literal["coco", "lvis", "sa1b"]
    pictures: int
    objects: int
    accuracy: tuple[PromptAccuracy, ...]
    original_accuracy: tuple[PromptAccuracy, ...]
    drops: tuple[Drop, ...]

    @property
    def truth(self) -> str:
        """Name of the annotations' file or folder."""
        return PureWindowsPath(self.annotations).name


Result = FidelityResult | AccuracyResult


class _Envelope(msgspec.Struct):
    format: str
    version: int


def read_result(path: str | os.PathLike[str]) -> Result:
    """Return the result in a file that `bhk eval --out` wrote.

    Raises:
        EvaluationDocumentError: it cannot be read, or is something else.
    """
    name = shown(os.fsdecode(path))
    expected = "expected what `bhk eval --out FILE.json` writes"
    try:
        data = Path(path).read_bytes()
        envelope = msgspec.json.decode(data, type=_Envelope)
        if envelope.format != FORMAT:
            raise EvaluationDocumentError(f"{name} has the format {shown(envelope.format)!r}; {expected}")
        if envelope.version != VERSION:
            raise EvaluationDocumentError(
                f"{name} has version {envelope.version} of the format, but this bhk knows {VERSION}; update bhk"
            )
        return msgspec.json.decode(data, type=Result)  # type: ignore[no-any-return]
    except OSError as error:
        raise EvaluationDocumentError(f"cannot read {name}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvaluationDocumentError(f"{name} is no result of an evaluation ({shown(error)}); {expected}") from error
