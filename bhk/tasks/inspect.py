"""What is in a .bhk file: `bhk.inspect`. Reads only the header and needs no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bhk.base.errors import OptionError, option
from bhk.base.report import Report, plain
from bhk.base.tables import Column, Table
from bhk.base.texts import number, scientific, times_smaller
from bhk.container.header import CodebookEntry, LayerEntry, ModelEntry
from bhk.container.places import PREAMBLE_BYTES
from bhk.container.provenance import made_with, others
from bhk.file.sizes import float32_bytes
from bhk.hub.address import public_name
from bhk.hub.ranges import open_container
from bhk.sam.variants import title_of

Grouping = Literal["role", "block"]
Sorting = Literal["name", "bytes", "bits", "ratio", "snr", "max-error"]

_SHOWN = 160  # characters of a metadata value in the text


@dataclass(frozen=True)
class Row:
    """One tensor, or a group of tensors.

    Attributes:
        name: name of the tensor or the group.
        layers: number of tensors.
        role, dtype, encoding: those of the tensor; for a group, the different values, separated by commas.
        shape: None for a group.
        weights: number of elements.
        dense_bytes: size of the original tensors in bytes.
        bytes: size in the file, in bytes.
        windings, shells, step: the tensor's codebook; None for exact tensors and for groups.
        snr_db: signal-to-noise ratio in dB, measured when the file was written; the lowest of a group. None for exact
            tensors and for tensors without any error.
        max_abs: largest absolute error, in units of the weights; 0 for exact tensors.
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
        """Stored bits per weight."""
        return 8 * self.bytes / self.weights if self.weights else 0.0

    @property
    def ratio(self) -> float | None:
        """Dense size over stored size; None for tensors that take no space in the file."""
        return self.dense_bytes / self.bytes if self.bytes else None


@dataclass(frozen=True)
class InspectionReport(Report):
    """What `bhk.inspect` found.

    Attributes:
        path: the file, as it was given.
        generator: the program that wrote the file, with its version.
        made_with: the same, and what was asked of it: quality, rules, calibration, versions.
        metadata: the file's metadata.
        model: family, variant and sizes of the model; None if the file names no model.
        rows: one row per tensor or per group.
        total: all tensors as one row, whatever `rows` shows.
        float32_bytes: size of the original tensors in bytes if their floating-point numbers were float32.
        preamble, header, padding, streams: sizes in bytes; they add up to the size of the file.
        grouped: whether rows are groups.
    """

    path: str
    generator: str
    made_with: str
    metadata: dict[str, str]
    model: ModelEntry | None
    rows: tuple[Row, ...]
    total: Row
    float32_bytes: int
    preamble: int
    header: int
    padding: int
    streams: int
    grouped: bool = False

    @property
    def title(self) -> str | None:
        """The model's usual name, such as "SAM-B"; None if the file names no model."""
        return None if self.model is None else title_of(self.model)

    @property
    def file_bytes(self) -> int:
        """Size of the file in bytes."""
        return self.preamble + self.header + self.padding + self.streams

    @property
    def ratio(self) -> float:
        """Dense size of all tensors over the size of the file."""
        return self.total.dense_bytes / self.file_bytes

    @property
    def float32_ratio(self) -> float:
        """The same against tensors in float32."""
        return self.float32_bytes / self.file_bytes

    def lines(self) -> Iterator[str | Table]:
        """Yield how the file was made, other metadata, the model, the table, and how the size of the file adds up."""
        yield f"made with: {self.made_with}"
        for key, value in others(self.metadata).items():
            yield f"{key}: {_shortened(value)}"
        if self.model is not None:
            yield f"model: {self.title}"
            yield f"model.family: {self.model.family}"
            if self.model.variant is not None:
                yield f"model.variant: {self.model.variant}"
            elif self.model.arguments:
                yield f"model.arguments: {', '.join(f'{name} {value}' for name, value in self.model.arguments.items())}"
        yield _table(self.rows, self.total, self.grouped)
        yield (
            f"{self.file_bytes:,} bytes = {self.streams:,} streams + {self.header:,} header + {self.padding:,} padding + "
            f"{self.preamble} preamble; {times_smaller(self.file_bytes, self.total.dense_bytes, self.float32_bytes)}"
        )

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        sizes = {name: getattr(self, name) for name in ("preamble", "header", "padding", "streams")}
        return {
            "path": self.path,
            "generator": self.generator,
            "made_with": self.made_with,
            "metadata": self.metadata,
            "model": None if self.model is None else {"title": self.title, **plain(_model_fields(self.model))},
            "file_bytes": self.file_bytes,
            "sizes": sizes,
            "ratio": self.ratio,
            "float32_ratio": self.float32_ratio,
            "rows": [_row_document(row) for row in self.rows],
            "total": _row_document(self.total),
        }


def inspect(
    path: str | os.PathLike[str],
    *,
    by: Grouping | None = None,
    sort: Sorting | None = None,
    top: int | None = None,
) -> InspectionReport:
    """List the tensors of a .bhk file with their encoding, size and error. Reads only the header.

    >>> report = bhk.inspect("demo_sam.bhk", by="role", sort="bytes", top=1)
    >>> report.rows[0].name, report.rows[0].layers
    ('linear', 71)
    >>> report.file_bytes == report.preamble + report.header + report.padding + report.streams
    True

    Args:
        path: a file, or "hf://user/repo[/file.bhk][@revision]" on the Hugging Face Hub; only the header is downloaded.
        by: group the tensors by "role", or by "block": their name up to its first number, such as
            `image_encoder.blocks.3`.
        sort: sort the rows by this column, largest first; by "name" and "snr", smallest first. None keeps the order of
            the file.
        top: keep only this many rows, the first ones.

    Raises:
        HubError: the file could not be read from the Hub.
        ReadError, FormatError: the file cannot be read, or breaks a rule of the format.
        OptionError: `by` or `sort` has another value, or `top` is not positive.
    """
    _check(by, sort, top)
    with open_container(path) as container:
        header, header_bytes, length = container.header, container.header_length, container.source.length
    rows = [_row(layer, header.codebooks) for layer in header.layers]
    total = merge("total", rows)
    if by is not None:
        rows = _group(rows, _role if by == "role" else _block)
    if sort is not None:
        rows.sort(key=_SORT_KEYS[sort])
    padding = length - PREAMBLE_BYTES - header_bytes - total.bytes
    return InspectionReport(
        path=public_name(path),
        generator=header.generator,
        made_with=made_with(header),
        metadata=header.metadata,
        model=header.model,
        rows=tuple(rows[:top]),
        total=total,
        float32_bytes=float32_bytes(header.layers),
        preamble=PREAMBLE_BYTES,
        header=header_bytes,
        padding=padding,
        streams=total.bytes,
        grouped=by is not None,
    )


def _check(by: str | None, sort: str | None, top: int | None) -> None:
    for name, value, choices in (("by", by, get_args(Grouping)), ("sort", sort, get_args(Sorting))):
        if value is not None and value not in choices:
            raise OptionError(f"there is no {value!r} for {option(name)}; choose one of {', '.join(choices)}")
    if top is not None and top < 1:
        raise OptionError(f"{option('top')} is {top}; expected 1 or more")


_SORT_KEYS: dict[Sorting, Callable[[Row], tuple[float, str]]] = {
    "name": lambda row: (0.0, row.name),
    "bytes": lambda row: (-row.bytes, row.name),
    "bits": lambda row: (-row.bits, row.name),
    "ratio": lambda row: (-(row.ratio or 0.0), row.name),
    "snr": lambda row: (float("inf") if row.snr_db is None else row.snr_db, row.name),
    "max-error": lambda row: (-row.max_abs, row.name),
}


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
    """Return several rows as one."""
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


def _table(rows: Iterable[Row], total: Row, grouped: bool) -> Table:
    columns = [
        Column("group" if grouped else "tensor", "left", least=32),
        Column("role", "left", rank=3),
        Column("tensors" if grouped else "shape", rank=1),
        Column("dtype", "left", rank=6),
        Column("encoding", "left", rank=4),
        Column("windings", rank=7),
        Column("shells", rank=9),
        Column("step", rank=8),
        Column("bytes"),
        Column("bits/w", rank=2),
        Column("ratio"),
        Column("lowest SNR" if grouped else "SNR dB"),
        Column("max error", rank=5),
    ]
    footer = _cells(total)
    footer[1:5] = ["", str(total.layers) if grouped else "", "", ""]
    if not grouped:
        footer[11] = ""
    return Table(columns, [_cells(row) for row in rows], footer)


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        row.role,
        str(row.layers) if row.shape is None else "×".join(map(str, row.shape)) or "scalar",
        row.dtype,
        row.encoding,
        "" if row.windings is None else str(row.windings),
        "" if row.shells is None else str(row.shells),
        "" if row.step is None else scientific(row.step),
        f"{row.bytes:,}",
        number(row.bits),
        number(row.ratio),
        "" if row.encoding == "exact" else number(row.snr_db, 1),
        scientific(row.max_abs) if row.max_abs else "0",
    ]


def _shortened(value: str) -> str:
    """Return a metadata value, cut if it is long: some are whole files."""
    return (
        value
        if len(value) <= _SHOWN
        else f"{value[:_SHOWN]}… ({len(value):,} characters; the JSON document has them all)"
    )


def _model_fields(entry: ModelEntry) -> dict[str, object]:
    return {"family": entry.family, "variant": entry.variant, "arguments": entry.arguments}


def _row_document(row: Row) -> dict[str, Any]:
    return {**plain(row), "bits_per_weight": row.bits, "ratio": row.ratio}
