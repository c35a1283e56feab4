"""What is in a .bhk file: `bhk.inspect`. Reads the header only, and needs no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from bhk.container.header import CodebookEntry, LayerEntry, ModelEntry
from bhk.container.validate import PREAMBLE_BYTES
from bhk.hub.ranges import open_container
from bhk.sam.variants import title_of

Grouping = Literal["role", "block"]


@dataclass(frozen=True)
class Row:
    """One layer, or a group of layers.

    Attributes:
        name: of the layer or the group.
        layers: number of layers.
        role, dtype, encoding: of the layer; of a group, those of its layers, comma-separated.
        shape: None for a group.
        weights: number of elements.
        dense_bytes: bytes of the original tensors.
        bytes: bytes of the streams.
        windings, shells, step: of the layer's codebook; None when exact or in a group.
        snr_db: measured when written; of a group the lowest; None when exact or without any error.
        max_abs: largest absolute error, in weight units; 0 when exact.
    """

    name: str
    layers: int
    role: str
    shape: tuple[int, ...] | None
    dtype: str
    encoding: str
    weights: int
    dense_bytes: int
    bytes: int
    windings: int | None
    shells: int | None
    step: float | None
    snr_db: float | None
    max_abs: float

    @property
    def bits(self) -> float:
        """Stored bits a weight."""
        return 8 * self.bytes / self.weights if self.weights else 0.0

    @property
    def ratio(self) -> float | None:
        """How many times smaller than the dense tensors; None when nothing is stored."""
        return self.dense_bytes / self.bytes if self.bytes else None


@dataclass(frozen=True)
class Inspection:
    """What `bhk.inspect` found. `preamble + header + padding + streams` is the size of the file, to the byte."""

    path: str
    generator: str
    metadata: dict[str, str]
    model: ModelEntry | None
    rows: tuple[Row, ...]
    total: Row
    preamble: int
    header: int
    padding: int
    streams: int

    @property
    def title(self) -> str | None:
        """What people call the model; None where the file names none."""
        return None if self.model is None else title_of(self.model.family, self.model.variant)

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.preamble + self.header + self.padding + self.streams

    @property
    def ratio(self) -> float:
        """Dense bytes of all tensors over the size of the file."""
        return self.total.dense_bytes / self.file_bytes


def inspect(path: str | os.PathLike[str], *, by: Grouping | None = None) -> Inspection:
    """Read the layer map of a .bhk file: one row a layer, or a group.

    Args:
        path: a file, or one on the Hugging Face Hub, "hf://user/repo[/file.bhk][@revision]", of which only this is fetched.
        by: "role", or "block" (the name up to its first number: `image_encoder.blocks.3`).

    Raises:
        HubError: the Hub did not give the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
    """
    with open_container(path) as container:
        header, header_bytes, length = container.header, container.header_bytes, container.source.length
    rows = [_row(layer, header.codebooks) for layer in header.layers]
    total = merge("total", rows)
    if by is not None:
        rows = _group(rows, _role if by == "role" else _block)
    padding = length - PREAMBLE_BYTES - header_bytes - total.bytes
    return Inspection(
        path=os.fspath(path),
        generator=header.generator,
        metadata=header.metadata,
        model=header.model,
        rows=tuple(rows),
        total=total,
        preamble=PREAMBLE_BYTES,
        header=header_bytes,
        padding=padding,
        streams=total.bytes,
    )


def _row(layer: LayerEntry, codebooks: tuple[CodebookEntry, ...]) -> Row:
    codebook = None if layer.codebook is None else codebooks[layer.codebook]
    return Row(
        name=layer.name,
        layers=1,
        role=layer.role,
        shape=layer.shape,
        dtype=layer.dtype,
        encoding=layer.encoding,
        weights=layer.numel,
        dense_bytes=layer.dense_bytes,
        bytes=layer.stored_bytes,
        windings=None if codebook is None else codebook.windings,
        shells=None if codebook is None else codebook.shells,
        step=None if codebook is None else codebook.side / codebook.windings,
        snr_db=None if layer.error is None else layer.error.snr_db,
        max_abs=layer.error.max_abs if layer.error else 0.0,
    )


def _role(row: Row) -> str:
    return row.role


def _block(row: Row) -> str:
    found = re.match(r".*?\.\d+(?=\.|$)", row.name)
    return found[0] if found else row.name.partition(".")[0]


def _group(rows: Iterable[Row], key: Callable[[Row], str]) -> list[Row]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return [merge(name, members) for name, members in groups.items()]


def merge(name: str, rows: Iterable[Row]) -> Row:
    """Return one row for several."""
    members = list(rows)
    snrs = [row.snr_db for row in members if row.snr_db is not None]
    return Row(
        name=name,
        layers=len(members),
        role=_joined(row.role for row in members),
        shape=None,
        dtype=_joined(row.dtype for row in members),
        encoding=_joined(row.encoding for row in members),
        weights=sum(row.weights for row in members),
        dense_bytes=sum(row.dense_bytes for row in members),
        bytes=sum(row.bytes for row in members),
        windings=None,
        shells=None,
        step=None,
        snr_db=min(snrs, default=None),
        max_abs=max((row.max_abs for row in members), default=0.0),
    )


def _joined(values: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(values))
