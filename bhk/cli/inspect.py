"""`bhk inspect`."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Annotated

import typer

from bhk.cli.options import BhkPath, Json
from bhk.cli.output import Output, number, plain, scientific, size

if TYPE_CHECKING:
    from bhk.container.header import ModelEntry
    from bhk.tasks.inspect import Inspection, Row

_COLUMNS = [
    ("tensor", "left"),
    ("role", "left"),
    ("shape", "right"),
    ("dtype", "left"),
    ("encoding", "left"),
    ("n", "right"),
    ("shells", "right"),
    ("step", "right"),
    ("bytes", "right"),
    ("bits/w", "right"),
    ("ratio", "right"),
    ("SNR dB", "right"),
    ("max error", "right"),
]

_SHOWN = 160  # characters of a value of the metadata


class By(str, enum.Enum):
    """How rows are grouped."""

    role = "role"
    block = "block"


class Sort(str, enum.Enum):
    """What rows are sorted by: largest first, but names and SNR smallest first."""

    name = "name"
    bytes = "bytes"
    bits = "bits"
    ratio = "ratio"
    snr = "snr"
    max_abs = "max-error"


def inspect(
    path: BhkPath,
    by: Annotated[
        By | None, typer.Option(metavar="role|block", help="One row a role or block instead of one a tensor.")
    ] = None,
    sort: Annotated[
        Sort | None,
        typer.Option(
            metavar="COLUMN",
            help="Sort by name, bytes, bits, ratio, snr or max-error, the most telling first; by default as in the file.",
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, metavar="N", help="Show the first N rows only.")] = None,
    as_json: Json = False,
) -> None:
    """Show each tensor's encoding, size and error. Reads the header only."""
    from bhk.tasks.inspect import inspect as task

    output = Output(as_json=as_json)
    found = task(path, by=by.value if by else None)
    rows = list(found.rows)
    if sort is not None:
        rows.sort(key=lambda row: _sort_key(row, sort))
    rows = rows[:top]
    for key, value in found.metadata.items():
        output.line(f"{key}: {_shortened(value)}")
    if found.model:
        output.line(f"model: {found.title}")
        for field, content in _model(found.model).items():
            if content:
                output.line(f"model.{field}: {content if isinstance(content, str) else json.dumps(content)}")
    grouped = by is not None
    columns = [("group" if grouped else "tensor", "left"), *_COLUMNS[1:]]
    if grouped:
        columns[2], columns[11] = ("tensors", "right"), ("lowest SNR", "right")
    total = _cells(found.total)
    total[1:5] = ["", str(found.total.layers) if grouped else "", "", ""]
    if not grouped:
        total[11] = ""
    output.table(columns, [_cells(row) for row in rows], total)
    output.line(_sum(found))
    output.document(_document(found, rows))


def _shortened(value: str) -> str:
    """Return a value of the metadata, of a long one (a whole file, perhaps) the beginning."""
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}… ({len(value):,} characters; all with --json)"


def _sort_key(row: Row, sort: Sort) -> tuple[float, str]:
    value = {
        Sort.name: 0.0,
        Sort.bytes: -row.bytes,
        Sort.bits: -row.bits,
        Sort.ratio: -(row.ratio or 0.0),
        Sort.snr: float("inf") if row.snr_db is None else row.snr_db,
        Sort.max_abs: -row.max_abs,
    }[sort]
    return value, row.name


def _cells(row: Row) -> list[str]:
    shape = str(row.layers) if row.shape is None else "×".join(map(str, row.shape)) or "scalar"
    return [
        row.name,
        row.role,
        shape,
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


def _sum(found: Inspection) -> str:
    return (
        f"{found.file_bytes:,} bytes = {found.streams:,} streams + {found.header:,} header + {found.padding:,} padding + "
        f"{found.preamble} preamble; {found.ratio:.2f} times smaller than {size(found.total.dense_bytes)}"
    )


def _model(entry: ModelEntry) -> dict[str, object]:
    return {"family": entry.family, "variant": entry.variant, "arguments": entry.arguments}


def _document(found: Inspection, rows: list[Row]) -> dict[str, object]:
    def entry(row: Row) -> dict[str, object]:
        return {**plain(row), "bits_per_weight": row.bits, "ratio": row.ratio}

    sizes = {name: getattr(found, name) for name in ("preamble", "header", "padding", "streams")}
    return {
        "path": found.path,
        "generator": found.generator,
        "metadata": found.metadata,
        "model": None if found.model is None else {"title": found.title, **_model(found.model)},
        "file_bytes": found.file_bytes,
        "sizes": sizes,
        "ratio": found.ratio,
        "rows": [entry(row) for row in rows],
        "total": entry(found.total),
    }
