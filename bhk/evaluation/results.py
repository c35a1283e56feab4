"""Results of evaluations: what `bhk.fidelity` and `bhk.accuracy` return, write as JSON, and read back for a model card."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any, ClassVar

from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number
from bhk.evaluation.accuracy_summary import Drop, PromptAccuracy
from bhk.evaluation.annotations.dataset import Format
from bhk.evaluation.average_precision import Precision
from bhk.evaluation.environment import Environment
from bhk.evaluation.faults import FaultCount
from bhk.evaluation.fidelity import PictureFidelity
from bhk.evaluation.fidelity_summary import Agreement, Fidelity
from bhk.evaluation.files import Record, RecordColumn
from bhk.evaluation.intervals import Estimate
from bhk.evaluation.records import (
    ACCURACY_COLUMNS,
    FIDELITY_COLUMNS,
    INTERVALS,
    accuracy_records,
    fidelity_records,
    measured_with,
    model_cells,
)
from bhk.evaluation.report import GENERATOR, ComparedReport
from bhk.evaluation.settings import AccuracySettings, FidelitySettings

_NAMED = 5  # skipped pictures that hints name

_FIDELITY_COLUMNS = (
    Column("masks of", "left"),
    Column("number", rank=1),
    Column("mean IoU"),
    Column("95 % interval"),
    Column("median", rank=5),
    Column("99 % reach", rank=3, meaning="the lowest IoU apart from the worst 1 % of the masks"),
    Column("lowest", rank=4),
    Column("≥ 0.95", rank=2, meaning="share of the masks with such an IoU"),
    Column("boundary IoU", rank=6),
    Column("score change", rank=8),
    Column("other best", rank=7, meaning="share of the prompts for which the models score different masks best"),
)
_MIOU_COLUMNS = (
    Column("prompt", "left"),
    Column("masks", rank=1),
    Column("mIoU"),
    Column("95 % interval"),
    Column("small", rank=2, meaning="mIoU of objects below 32² pixels"),
    Column("medium", rank=2, meaning="below 96²"),
    Column("large", rank=2, meaning="above"),
    Column("oracle", rank=3, meaning="mIoU if the best mask of the multimask output is always chosen"),
)
_AP_COLUMNS = (
    Column("prompt", "left"),
    Column("AP"),
    *(Column(name, rank=1) for name in ("AP50", "AP75")),
    *(Column(name, rank=2) for name in ("APs", "APm", "APl")),
)
_LVIS_COLUMNS = tuple(Column(name, rank=3) for name in ("APr", "APc", "APf"))


@dataclass(frozen=True)
class EvaluatedModel:
    """A model that took part in an evaluation.

    Attributes:
        path: path of the file as it was given.
        sha256: SHA-256 of its bytes; for a checkpoint in several files, of all their bytes in order.
        bytes: size of the file.
        family: architecture and layout, such as "sam".
        variant: the published model with these sizes; None if there is none.
        title: the name people use for the variant; None if there is none.
        arguments: the sizes of the architecture.
        ratio: size of the original tensors divided by the size of the file; None for a checkpoint.
        source_sha256: SHA-256 of the checkpoint it was converted from, if the file says so.
        note: what was assumed about a checkpoint; None if nothing was.
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
    note: str | None = None

    @property
    def name(self) -> str:
        """The last part of the path. The rest would say something about the machine it was on."""
        return PureWindowsPath(self.path).name

    @property
    def described(self) -> str:
        """The path, and how much smaller the file is than its original tensors."""
        return self.path if self.ratio is None else f"{self.path}, {self.ratio:.2f} times smaller"


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out.

    Attributes:
        name: path of the picture within its folder.
        reason: why it was left out, in one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class FidelityReport(ComparedReport):
    """What `bhk.fidelity` returns: how closely a model's masks match those of its original.

    Attributes:
        settings: everything the results depend on apart from the models and the pictures.
        model, original: the two models.
        pictures: number of pictures used, without the skipped ones.
        fidelity: the model compared with the original.
        control: the original in bfloat16 compared with itself: the change that ordinary rounding makes. None if it was not
            asked for.
        skipped: pictures that could not be used.
        images: the result for each picture used; with a work folder, they are read from there whenever they are gone through.
        environment: what the results were measured with.
        generator: bhk and its version.
    """

    protocol: ClassVar[str] = "fidelity"

    settings: FidelitySettings
    model: EvaluatedModel
    original: EvaluatedModel
    pictures: int
    fidelity: Fidelity
    control: Fidelity | None
    skipped: tuple[Skipped, ...]
    images: Collection[PictureFidelity] = field(repr=False)
    environment: Environment
    generator: str = GENERATOR

    @property
    def seen(self) -> str:
        """What the masks were found in: "40 pictures", or "40 frames of a clip"."""
        return (
            f"{counted(self.pictures, 'frame')} of a clip"
            if self.settings.follow
            else counted(self.pictures, "picture")
        )

    @property
    def hints(self) -> tuple[str, ...]:
        """Warnings about the models, and the names of skipped pictures."""
        named = [f"skipped {picture.name}: {picture.reason}" for picture in self.skipped[:_NAMED]]
        if len(self.skipped) > _NAMED:
            named.append(f"skipped {len(self.skipped) - _NAMED} more pictures; the JSON document names them all")
        return (*_assumed(self.model, self.original), *_other_weights(self.model, self.original), *named)

    def lines(self) -> Iterator[str | Table]:
        """Yield the report as text."""
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        yield f"{self.model.described}, against {self.original.path}: {self.seen}{skipped}"
        controls = () if self.control is None else _fidelity_rows(self.control, "control: ")
        yield Table(_FIDELITY_COLUMNS, [*_fidelity_rows(self.fidelity, ""), *controls])
        yield f"image embedding: {_embedding(self.fidelity)}"
        if self.control is not None:
            yield f"control, the original in bfloat16: {_embedding(self.control)}"
        if self.fidelity.all.empty:
            yield f"{self.fidelity.all.empty:.1%} of the masks are empty in both models and count as IoU 1"

    @property
    def columns(self) -> Sequence[RecordColumn]:
        """The entries of the records that a short table shows."""
        return FIDELITY_COLUMNS

    def records(self) -> Iterator[Record]:
        """Yield a row for each group of masks, and for each of the control; see `ComparedReport.records`."""
        measured = measured_with(self)
        yield from (model_cells(self.model) | row | measured for row in fidelity_records(self.fidelity))
        if self.control is not None:
            control: Record = {"model": f"{self.original.name} in bfloat16"}
            yield from (control | row | measured for row in fidelity_records(self.control))

    def notes(self) -> Iterator[str]:
        """Yield what the report was measured on and with."""
        yield f"masks of {self.seen} compared with those of {self.original.name}; {INTERVALS}"
        yield f"seed {self.settings.seed}; {self.generator}, {self.environment.described}"


@dataclass(frozen=True)
class AccuracyReport(ComparedReport):
    """What `bhk.accuracy` returns: how well the masks of a model, and of its original, match annotated objects.

    Attributes:
        settings: everything the results depend on apart from the models, the pictures and the annotations.
        model: the model.
        original: the original it was compared with; None without one.
        annotations: the annotation file or folder as it was given.
        annotation_format: "coco", "lvis" or "sa1b".
        pictures: number of pictures used.
        objects: number of annotated objects that the model was prompted for.
        accuracy: the model's accuracy for each kind of prompt.
        original_accuracy: the original's accuracy; empty without one.
        drops: what the model loses against the original, for each kind of prompt.
        faults: everything wrong with annotations, pictures and detections, counted by kind.
        environment: what the results were measured with.
        generator: bhk and its version.
    """

    protocol: ClassVar[str] = "accuracy"

    settings: AccuracySettings
    model: EvaluatedModel
    original: EvaluatedModel | None
    annotations: str
    annotation_format: Format
    pictures: int
    objects: int
    accuracy: tuple[PromptAccuracy, ...]
    original_accuracy: tuple[PromptAccuracy, ...]
    drops: tuple[Drop, ...]
    faults: tuple[FaultCount, ...]
    environment: Environment
    generator: str = GENERATOR

    @property
    def measured(self) -> str:
        """Which of the model's masks count, in words."""
        if all(entry.prompt == "text" for entry in self.accuracy):
            return "all masks for the names of categories"
        return "best-scored mask of the multimask output" if self.settings.output == "multi" else "single mask"

    @property
    def annotations_name(self) -> str:
        """The last part of the path of the annotations."""
        return PureWindowsPath(self.annotations).name

    @property
    def hints(self) -> tuple[str, ...]:
        """Warnings about the models, and the faults found in the data."""
        faults = [f"{fault.count:,} × {fault.kind.value}; such as {'; '.join(fault.examples)}" for fault in self.faults]
        return (*_assumed(self.model, self.original), *_other_weights(self.model, self.original), *faults)

    def lines(self) -> Iterator[str | Table]:
        """Yield the report as text."""
        yield (
            f"{self.model.described}: {counted(self.pictures, 'picture')}, {counted(self.objects, 'object')} of "
            f"{self.annotations} ({self.annotation_format}); {self.measured}"
        )
        found = [(str(entry.prompt), entry) for entry in self.accuracy]
        found += [(f"original: {entry.prompt}", entry) for entry in self.original_accuracy]
        yield Table(_MIOU_COLUMNS, [(name, *_miou_cells(entry)) for name, entry in found])
        precise = [(name, entry.precision) for name, entry in found if entry.precision is not None]
        if precise:
            lvis = self.annotation_format == "lvis"
            columns = _AP_COLUMNS + _LVIS_COLUMNS * lvis
            yield Table(columns, [(name, *_precision_cells(precision, lvis)) for name, precision in precise])
        for drop in self.drops:
            yield f"relative drop, prompted by {drop.prompt}: {drop.described}"

    @property
    def columns(self) -> Sequence[RecordColumn]:
        """The entries of the records that a short table shows."""
        return ACCURACY_COLUMNS

    def records(self) -> Iterator[Record]:
        """Yield a row for each kind of prompt, and for each of the original; see `ComparedReport.records`."""
        measured = measured_with(self) | {"objects": self.objects, "annotations": self.annotations_name}
        yield from (model_cells(self.model) | row | measured for row in accuracy_records(self.accuracy, self.drops))
        if self.original is not None:
            original = model_cells(self.original)
            yield from (original | row | measured for row in accuracy_records(self.original_accuracy, ()))

    def notes(self) -> Iterator[str]:
        """Yield what the report was measured on and with."""
        yield (
            f"{counted(self.objects, 'object')} in {counted(self.pictures, 'picture')} of {self.annotations_name}; drops are "
            f"relative to the original; {INTERVALS}"
        )
        yield f"seed {self.settings.seed}; {self.generator}, {self.environment.described}"


def _assumed(*models: EvaluatedModel | None) -> Iterator[str]:
    """Yield what was assumed about checkpoints."""
    yield from (f"{model.name}: {model.note}" for model in models if model is not None and model.note)


def _other_weights(model: EvaluatedModel, original: EvaluatedModel | None) -> Iterator[str]:
    """Yield a warning if the model was not converted from `original`."""
    source = model.source_sha256
    if source is not None and original is not None and source != original.sha256:
        yield (
            f"warning: {model.path} was converted from other weights (SHA-256 {source[:12]}…) than {original.path} "
            f"({original.sha256[:12]}…)"
        )


def _fidelity_rows(fidelity: Fidelity, prefix: str) -> Iterator[tuple[str, ...]]:
    for name, agreement in fidelity.groups.items():
        yield prefix + name, *_agreement_cells(agreement)


def _agreement_cells(agreement: Agreement) -> tuple[str, ...]:
    return (
        f"{agreement.masks:,}",
        number(agreement.iou_mean.value, 4),
        agreement.iou_mean.interval(),
        number(agreement.iou_median.value, 4),
        number(agreement.iou_percentile, 4),
        number(agreement.iou_min, 4),
        number(100 * agreement.faithful.value, 1, " %"),
        number(agreement.boundary_iou.value, 4),
        f"{agreement.score_change.value:+.4f}",
        number(100 * agreement.flips.value, 1, " %") if agreement.flips else "–",
    )


def _embedding(fidelity: Fidelity) -> str:
    cosine = fidelity.embedding_cosine
    lowest = number(fidelity.embedding_cosine_min, 5)
    return f"cosine {number(cosine.value, 5)} ({cosine.interval(5)}), lowest {lowest}"


def _miou_cells(found: PromptAccuracy) -> Iterator[str]:
    yield f"{found.masks:,}"
    yield _value(found.miou)
    yield "–" if found.miou is None else found.miou.interval()
    yield from map(_value, (found.small, found.medium, found.large, found.oracle))


def _precision_cells(found: Precision, lvis: bool) -> list[str]:
    values = [found.ap, found.ap50, found.ap75, found.small, found.medium, found.large]
    if lvis:
        values += [found.rare, found.common, found.frequent]
    return [number(value, 4) for value in values]


def _value(estimate: Estimate | None) -> str:
    return number(None if estimate is None else estimate.value, 4)
