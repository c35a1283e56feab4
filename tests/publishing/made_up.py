"""Small .bhk files that say of themselves whatever a test wants, and results of evaluations of them."""

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
from bhk.sam.variants import VARIANTS

SHA256 = "5e" * 32


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
    """Return what a header says of a published model."""
    found = VARIANTS[variant]
    return ModelEntry(found.family, variant, msgspec.to_builtins(found.architecture) or {})


def source(name: str) -> dict[str, str]:
    """Return the metadata of a file made from a checkpoint."""
    return {"source.name": name, "source.dtype": "F32", "source.bytes": "12544", "source.sha256": SHA256}


def companions(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file made from a checkpoint of transformers."""
    return {"file.config.json": json.dumps(config)}


def fidelity(sha256: str, *, control: bool = True, original: str = SHA256) -> dict[str, Any]:
    """Return the document of an evaluation of fidelity."""

    def agreement(iou: float) -> dict[str, Any]:
        share = {"value": iou, "low": iou - 0.01, "high": iou + 0.01}
        return {"masks": 1234, "iou_mean": share, "iou_min": iou / 2, "faithful": share, "boundary_iou": share}

    def found(iou: float) -> dict[str, Any]:
        groups = {"points": agreement(iou), "boxes": None, "single": None, "all": agreement(iou)}
        return groups | {
            "embedding_cosine": {"value": 0.9991, "low": None, "high": None},
            "embedding_cosine_min": 0.99,
        }

    return {
        "format": "bhk-evaluation",
        "version": 1,
        "generator": "bhk 9.9",
        "protocol": "fidelity",
        "settings": {"points": 32, "boxes": 0, "seed": 0, "dtype": "float32", "compute": "exact"},
        "model": {"path": "/home/me/private/x.bhk", "sha256": sha256},
        "original": {"path": "/home/me/private/sam.pth", "sha256": original},
        "pictures": 1,
        "fidelity": found(0.9876),
        "control": found(0.9987) if control else None,
        "images": [],
    }


def accuracy(sha256: str) -> dict[str, Any]:
    """Return the document of an evaluation of accuracy."""

    def found(prompt: str, miou: float) -> dict[str, Any]:
        interval = {"value": miou, "low": miou - 0.01, "high": miou + 0.01}
        return {"prompt": prompt, "masks": 4567, "miou": interval, "precision": {"ap": miou / 2}}

    return {
        "format": "bhk-evaluation",
        "version": 1,
        "generator": "bhk 9.9",
        "protocol": "accuracy",
        "settings": {"output": "single", "dtype": "float32", "compute": "int8"},
        "model": {"path": "C:\\private\\x.bhk", "sha256": sha256},
        "original": {"path": "C:\\private\\sam.pth", "sha256": SHA256},
        "annotations": "/data/private/instances_val2017.json",
        "annotation_format": "coco",
        "pictures": 5000,
        "objects": 36335,
        "accuracy": [found("box", 0.75), found("point", 0.5)],
        "original_accuracy": [found("box", 0.76), found("point", 0.51)],
        "drops": [{"prompt": "box", "miou": {"value": 0.0132, "low": 0.01, "high": 0.02}}],
        "faults": [],
    }


def written(path: Path, document: Any) -> Path:
    """Write a document."""
    path.write_text(json.dumps(document))
    return path
