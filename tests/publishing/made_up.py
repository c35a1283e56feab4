"""Small .bhk files with the metadata that a test needs, and results of evaluations of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from tasks.checkpoints import draw

from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.tensor import encode
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, ModelEntry
from bhk.container.writer import ContainerWriter
from bhk.evaluation.accuracy import PromptKind
from bhk.evaluation.accuracy_summary import Drop, PromptAccuracy
from bhk.evaluation.average_precision import Precision
from bhk.evaluation.environment import Environment
from bhk.evaluation.fidelity_summary import Agreement, Fidelity
from bhk.evaluation.intervals import Estimate
from bhk.evaluation.results import AccuracyReport, EvaluatedModel, FidelityReport
from bhk.evaluation.settings import AccuracySettings, FidelitySettings
from bhk.sam.variants import VARIANTS

SHA256 = VARIANTS["sam_vit_b"].sha256 or ""
OTHER_SHA256 = "5e" * 32
ENVIRONMENT = Environment("3.12.1", "2.9.0", "2.3.0", "AMD EPYC 9V74", "cpu")


def bhk_file(
    path: Path,
    *,
    model: ModelEntry | None = None,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a file with a coded linear weight and an exact bias."""
    layers, codebooks = [], []
    with path.open("w+b") as file:
        writer = ContainerWriter(file, 40_000)
        for name, tensor in draw({"lin.weight": (64, 48), "lin.bias": (64,)}).items():
            encoded = encode(tensor.to(dtype), "balanced")
            streams = writer.write(encoded.streams)
            fields: dict[str, Any] = {"encoding": "exact"}
            if encoded.codebook is not None and encoded.error is not None:
                book, error = encoded.codebook, encoded.error
                measured = ErrorEntry(error.mean_abs, error.max_abs, error.snr_db)
                fields = {"encoding": "trajectory", "pairing": encoded.pairing, "codebook": 0, "error": measured}
                codebooks.append(
                    CodebookEntry(book.centre, book.side, book.windings, "centred", book.shells, book.spacing)
                )
            role = "linear" if name == "lin.weight" else "bias"
            layers.append(LayerEntry(name, encoded.shape, DTYPE_NAMES[dtype], role, streams=streams, **fields))
        writer.finish(Header("bhk 9.9", tuple(layers), tuple(codebooks), metadata=dict(metadata or {}), model=model))
    return path


def entry(variant: str) -> ModelEntry:
    """Return the header entry of a published model."""
    found = VARIANTS[variant]
    return ModelEntry(found.family, variant, msgspec.to_builtins(found.architecture) or {})


def source(name: str, sha256: str | None = None) -> dict[str, str]:
    """Return the metadata of a file converted from a checkpoint, with the hash of the published file of that name if known."""
    known = (variant.sha256 for variant in VARIANTS.values() if name in variant.files)
    digest = sha256 or next(known, None) or OTHER_SHA256
    return {"source.name": name, "source.dtype": "F32", "source.bytes": "12544", "source.sha256": digest}


def companions(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file converted from a checkpoint of transformers."""
    return {"file.config.json": json.dumps(config)}


def _model(path: str, sha256: str) -> EvaluatedModel:
    return EvaluatedModel(path, sha256, 12_544, "sam", "sam_vit_b", "SAM-B", {"width": 768}, None)


def fidelity(sha256: str, *, control: bool = True, original: str = SHA256) -> FidelityReport:
    """Return a result of an evaluation of fidelity."""

    def agreement(iou: float) -> Agreement:
        share = Estimate(iou, iou - 0.01, iou + 0.01)
        return Agreement(1234, share, share, iou / 2, iou / 2, share, share, share, share, None, 0.0)

    def found(iou: float) -> Fidelity:
        return Fidelity(agreement(iou), None, None, agreement(iou), Estimate(0.9991, None, None), 0.99)

    return FidelityReport(
        settings=FidelitySettings(points=32, boxes=0),
        model=_model("/home/me/private/x.bhk", sha256),
        original=_model("/home/me/private/sam.pth", original),
        pictures=1,
        fidelity=found(0.9876),
        control=found(0.9987) if control else None,
        skipped=(),
        images=[],
        environment=ENVIRONMENT,
        generator="bhk 9.9",
    )


def accuracy(sha256: str) -> AccuracyReport:
    """Return a result of an evaluation of accuracy."""

    def found(prompt: PromptKind, miou: float) -> PromptAccuracy:
        precision = Precision(miou / 2, None, None, None, None, None)
        return PromptAccuracy(prompt, 4567, Estimate(miou, miou - 0.01, miou + 0.01), None, None, None, None, precision)

    return AccuracyReport(
        settings=AccuracySettings(compute="int8"),
        model=_model("C:\\private\\x.bhk", sha256),
        original=_model("C:\\private\\sam.pth", SHA256),
        annotations="/data/private/instances_val2017.json",
        annotation_format="coco",
        pictures=5000,
        objects=36335,
        accuracy=(found("box", 0.75), found("point", 0.5)),
        original_accuracy=(found("box", 0.76), found("point", 0.51)),
        drops=(Drop("box", Estimate(0.0132, 0.01, 0.02)),),
        faults=(),
        environment=ENVIRONMENT,
        generator="bhk 9.9",
    )


def written(path: Path, report: FidelityReport | AccuracyReport) -> Path:
    """Save a result."""
    report.save(path, force=True)
    return path
