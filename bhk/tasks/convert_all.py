"""Many checkpoints to .bhk files: `bhk.convert_all`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bhk.base.errors import BhkError, formed, option
from bhk.base.files import DestinationExistsError, FilePath, WriteError
from bhk.base.memory import NOT_ENOUGH, is_memory_error
from bhk.base.parallel import worker_count
from bhk.base.progress import Progress, silent
from bhk.base.report import Report, plain
from bhk.base.tables import Column, Table
from bhk.base.texts import counted, number, size
from bhk.calibration.options import Calibration, Samples
from bhk.conversion.prepare import prepare
from bhk.conversion.quality import Quality
from bhk.conversion.sources import Planned, find_sources
from bhk.conversion.writing import is_written
from bhk.engines.errors import WorkerError
from bhk.engines.processes import Processes
from bhk.engines.ray_cluster import Ray
from bhk.tasks.convert import ConversionReport, converted

Status = Literal["converted", "unchanged", "failed"]

_COLUMNS = (
    Column("checkpoint", "left", least=20),
    Column("result", "left"),
    Column("size"),
    Column("times smaller"),
    Column("seconds", rank=1),
)


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """What became of one of many checkpoints.

    Attributes:
        source: the file, folder or address.
        path: its .bhk file.
        status: "converted"; "unchanged", if the file was there already, made from the same checkpoint with the same options; or
            "failed".
        bytes: size of the file; None if it failed.
        ratio: how many times smaller it is than the dense tensors; None if it failed, and if it was there already.
        seconds: wall time.
        marked_hints: what was left out, and warnings, with marks around options (see `bhk.base.errors.option`).
        marked_error: why it failed, likewise; None if it did not.
    """

    source: str
    path: Path
    status: Status
    bytes: int | None = None
    ratio: float | None = None
    seconds: float = 0.0
    marked_hints: tuple[str, ...] = ()
    marked_error: str | None = None


@dataclass(frozen=True)
class ConversionsReport(Report):
    """What the conversion of many checkpoints did.

    Attributes:
        checkpoints: what became of each.
    """

    checkpoints: tuple[ConvertedCheckpoint, ...]

    def count(self, status: Status) -> int:
        """Return how many checkpoints were "converted", are "unchanged", or "failed"."""
        return sum(found.status == status for found in self.checkpoints)

    @property
    def hints(self) -> tuple[str, ...]:
        """Why checkpoints failed; then what was left out of others, and warnings."""
        failed = (f"{found.source} failed: {found.marked_error}" for found in self.checkpoints if found.marked_error)
        return (*failed, *(f"{found.source}: {hint}" for found in self.checkpoints for hint in found.marked_hints))

    def lines(self) -> Iterator[str | Table]:
        """Yield a table with a row for each checkpoint, and how many were converted."""
        rows = [
            (
                found.source,
                found.status,
                "–" if found.bytes is None else size(found.bytes),
                number(found.ratio),
                number(found.seconds, 1),
            )
            for found in self.checkpoints
        ]
        yield Table(_COLUMNS, rows)
        yield f"{counted(len(rows), 'checkpoint')}: " + ", ".join(
            f"{self.count(status)} {status}" for status in ("converted", "unchanged", "failed")
        )

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            **{status: self.count(status) for status in ("converted", "unchanged", "failed")},
            "checkpoints": [_document(found) for found in self.checkpoints],
        }


def _document(found: ConvertedCheckpoint) -> dict[str, Any]:
    names = ("source", "path", "status", "bytes", "ratio", "seconds")
    return {
        **{name: plain(getattr(found, name)) for name in names},
        "hints": list(map(formed, found.marked_hints)),
        "error": None if found.marked_error is None else formed(found.marked_error),
    }


def convert_all(
    sources: FilePath | Sequence[FilePath],
    out_dir: FilePath,
    quality: str | Quality = "balanced",
    *,
    calibration: Calibration | Samples | None = None,
    key: str | None = None,
    config: str | None = None,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    force: bool = False,
    workers: int | Ray = 1,
    progress: Progress | None = None,
) -> ConversionsReport:
    """Convert many checkpoints into .bhk files. One that fails does not stop the others.

    A file that is there already is kept if its header says that it was made from the same checkpoint, by its SHA-256, by the
    same version of bhk and with the same options; so an interrupted run continues. Another file of that name is an error of
    that checkpoint, unless `force` is true. A file that was calibrated with pictures of your own is always made anew.

    >>> found = bhk.convert_all("*.safetensors", "small", "small")
    >>> [(one.source, one.path.name, one.status) for one in found.checkpoints]
    [('demo_sam.safetensors', 'demo_sam.bhk', 'converted')]
    >>> bhk.convert_all("*.safetensors", "small", "small").count("unchanged")
    1

    Args:
        sources: files, folders, patterns such as "runs/*/last.pt", or Hub ids. A folder stands for the checkpoints in it and in
            its subfolders, and its files are written into the same subfolders. A folder that is one checkpoint itself, which
            holds model.safetensors, an index of shards or the two files of MobileSAMv2, stands for that one.
        out_dir: the folder to write into; created if missing.
        quality, calibration, key, config, metadata: see `bhk.convert`; they are those of all checkpoints. A calibration's work
            folder gets a subfolder for each.
        threads: worker threads of each process; by default, all processes together have one per core.
        force: convert all anew, and replace files that exist.
        workers: number of processes, each of which holds one checkpoint at a time; or a `bhk.Ray`. With more than 1, scripts
            need `if __name__ == "__main__":`.
        progress: called with ("Converting", checkpoints done, all of them).

    Raises:
        CheckpointError: a folder or a pattern holds no checkpoint, or a folder is one checkpoint and holds others as well.
        WriteError: two checkpoints would be written to one file, or the folder cannot be made.
        PresetError, MetadataError: see `bhk.convert`.
        ClusterError: the Ray cluster cannot be used.
    """
    planned = find_sources((sources,) if isinstance(sources, str | os.PathLike) else tuple(sources))
    if calibration is not None and not isinstance(calibration, Calibration):
        calibration = Calibration(calibration)
    count = worker_count(workers) if isinstance(workers, int) else 1
    share = 1 if isinstance(workers, Ray) else max(1, worker_count(None) // count)
    work = _Work(
        Path(out_dir),
        Quality(quality) if isinstance(quality, str) else quality,
        calibration,
        key,
        config,
        dict(metadata or {}),
        threads or share,
        force,
    )
    _make_folders({work.out_dir / one.path.parent for one in planned})
    progress = progress or silent
    engine = workers if isinstance(workers, Ray) else Processes(count, threads or share)
    found: dict[int, ConvertedCheckpoint] = {}
    progress("Converting", 0, len(planned))
    for index, outcome in engine.compute(work, planned, range(len(planned))):
        if isinstance(outcome, WorkerError):
            lost = planned[index]
            outcome = ConvertedCheckpoint(lost.source, work.out_dir / lost.path, "failed", marked_error=outcome.marked)
        found[index] = outcome
        progress("Converting", len(found), len(planned))
    return ConversionsReport(tuple(found[index] for index in range(len(planned))))


@dataclass(frozen=True)
class _Work:
    """Converts one checkpoint, and tells what became of it."""

    out_dir: Path
    quality: Quality
    calibration: Calibration | None
    key: str | None
    config: str | None
    metadata: dict[str, str]
    threads: int
    force: bool

    def __call__(self, planned: Planned) -> ConvertedCheckpoint:
        started, path = time.perf_counter(), self.out_dir / planned.path
        try:
            report = self._convert(planned, path, started)
        except Exception as error:  # such as MemoryError: the others go on
            reason = _reason(error)
            seconds = time.perf_counter() - started
            return ConvertedCheckpoint(planned.source, path, "failed", seconds=seconds, marked_error=reason)
        if report is None:
            return ConvertedCheckpoint(
                planned.source, path, "unchanged", path.stat().st_size, seconds=time.perf_counter() - started
            )
        return ConvertedCheckpoint(
            planned.source, path, "converted", report.bytes, report.ratio, report.seconds, report.hints
        )

    def _convert(self, planned: Planned, path: Path, started: float) -> ConversionReport | None:
        """Convert a checkpoint; return None if its file is there already."""
        calibration = self.calibration
        if calibration is not None and calibration.work_dir is not None:
            calibration = replace(calibration, work_dir=Path(calibration.work_dir) / planned.path.with_suffix(""))
        job = prepare(
            planned.source,
            path,
            self.quality,
            calibration,
            key=self.key,
            config=self.config,
            metadata=self.metadata,
            threads=self.threads,
            force=True,
            dry_run=False,
        )
        if not self.force and path.exists():
            if is_written(job):
                return None
            raise DestinationExistsError(
                f"{path} exists, and was made from other weights or with other options; "
                f"use {option('force', True)} to overwrite it"
            )
        return converted(replace(job, force=self.force), started)


def _reason(error: Exception) -> str:
    if isinstance(error, BhkError):
        return error.marked
    return NOT_ENOUGH if is_memory_error(error) else f"{type(error).__name__}: {error}".partition("\n")[0]


def _make_folders(folders: set[Path]) -> None:
    for folder in sorted(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make the folder {folder}: {error.strerror or error}") from error
