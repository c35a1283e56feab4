"""From a checkpoint to a .bhk file: `bhk.convert`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bhk.base.errors import formed
from bhk.base.progress import Progress, silent
from bhk.base.report import Report, plain
from bhk.base.texts import size, times_smaller
from bhk.calibration.options import Calibration, Samples
from bhk.container.header import LayerEntry
from bhk.conversion.coder import CalibrationReport, coder_for
from bhk.conversion.plan import plan
from bhk.conversion.prepare import Job, prepare
from bhk.conversion.quality import Quality
from bhk.conversion.writing import estimate, write
from bhk.file.sizes import float32_bytes
from bhk.sam.configuration import Config


@dataclass(frozen=True)
class ConversionReport(Report):
    """What a conversion did.

    Attributes:
        path: the .bhk file; None after a dry run.
        source_bytes: bytes of the dense tensors, each counted once.
        bytes: size of the .bhk file; estimated in a dry run.
        seconds: wall time.
        layers: the layer map; without streams and errors after a dry run.
        marked_warnings: the warnings, with marks around options (see `bhk.base.errors.option`).
        left_out: what the checkpoint held besides its weights.
        calibration: what calibration did; None without calibration.
    """

    path: Path | None
    source_bytes: int
    bytes: int
    seconds: float
    layers: tuple[LayerEntry, ...] = field(repr=False)
    marked_warnings: tuple[str, ...] = field(repr=False)
    left_out: tuple[str, ...]
    calibration: CalibrationReport | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be coded, calibrated or recognised, and why; and what was assumed."""
        return tuple(map(formed, self.marked_warnings))

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense tensors."""
        return self.source_bytes / self.bytes

    @property
    def float32_ratio(self) -> float:
        """How many times smaller the file is than the dense tensors in float32."""
        return float32_bytes(self.layers) / self.bytes

    @property
    def coded(self) -> int:
        """Number of tensors coded on a trajectory."""
        return sum(layer.encoding == "trajectory" for layer in self.layers)

    @property
    def hints(self) -> tuple[str, ...]:
        """What was left out, the warnings, and what calibration did."""
        return (
            *(f"left out: {left}" for left in self.left_out),
            *(f"warning: {warning}" for warning in self.marked_warnings),
            *(self.calibration.lines() if self.calibration else ()),
        )

    def lines(self) -> Iterator[str]:
        """Yield the size of the file and how much smaller it is."""
        about = "" if self.path else "about "
        yield (
            f"{self.path or 'dry run, nothing written'}: {about}{size(self.bytes)}, "
            f"{about}{times_smaller(self.bytes, self.source_bytes, float32_bytes(self.layers))}, "
            f"{self.coded} of {len(self.layers)} tensors coded, {self.seconds:.1f} s"
        )

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; the layer map is in the file itself."""
        sizes = ("path", "source_bytes", "bytes", "ratio", "float32_ratio")
        names = (*sizes, "seconds", "coded", "warnings", "left_out", "calibration")
        return {name: plain(getattr(self, name)) for name in names} | {"tensors": len(self.layers)}


def convert(
    src: str | os.PathLike[str] | nn.Module,
    out: str | os.PathLike[str] | None = None,
    quality: str | Quality = "balanced",
    *,
    calibration: Calibration | Samples | None = None,
    key: str | None = None,
    config: Config | None = None,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a checkpoint into a .bhk file.

    With `calibration`, bhk runs the model on samples and codes its weights so that its outputs change less: each column's
    error is compensated by later columns (GPTQ), and tensors that move the outputs most get finer steps. At the same preset,
    the file is smaller, and outputs may change a little more than without calibration.

    >>> report = bhk.convert("demo_sam.safetensors", "small.bhk", "small")
    >>> report.path.name, round(report.ratio, 1)
    ('small.bhk', 5.5)

    Args:
        src: a .pth, .pt, .bin or .safetensors file, a folder of shards, a zip that holds one of them, or a Hub id; or a module,
            whose state dict is coded and which needs an `out`.
        out: the file to write; by default the source's name with the suffix .bhk, beside it (for a Hub id: in this folder).
        quality: the name of a preset ("fine", "balanced", "small" or "birkhoff"), or a `bhk.Quality`.
        calibration: a `bhk.Calibration`, or its samples: "dead-leaves", "noise", a folder of pictures, or samples of your own.
        key: which state dict to convert if the checkpoint holds several, such as "ema" or "model.state_dict"; or the part of
            one whose names begin so, such as "teacher" for "teacher.…"; "." for all of them together.
        config: what the tensors of a Segment Anything model do not show, such as the size of SAM 2's pictures: a YAML file or
            a config.json, the name of a YAML file in the model's package, or of a published model (see `bhk.models`). By
            default, what the module says, or a configuration beside the checkpoint, or else its file name.
        metadata: entries to add to the file's metadata, such as {"license": "Apache-2.0"}.
        threads: worker threads; by default one per core. The bytes written do not depend on it.
        force: replace `out` if it exists.
        dry_run: estimate the sizes and write nothing.
        progress: called with (stage, done, total): ("Encoding", bytes of dense tensors done, all bytes), and before that
            ("Moments", "Sensitivity" or "Fidelity", samples or trials done, all of them).

    Raises:
        CalibrationError, NoPicturesError: the model cannot be built, fails, or cannot be run on these samples.
        WorkDirError: the calibration's work folder holds results of other work.
        ConfigurationError: `config` is none, or one of another model.
        CheckpointError: the source cannot be read, holds no tensors, is ambiguous or not safe to load.
        ChangedError: the source was changed while it was read; nothing is written.
        PresetError, PatternError: the quality is unknown or out of reach, or a pattern matches no tensor.
        MetadataError: an entry of `metadata` is one that bhk writes itself.
        FormatError: the format does not allow the name of a tensor or of an entry of `metadata`.
        WriteError: the destination exists, is the source, or cannot be written; it is left as it was.
    """
    started = time.perf_counter()
    progress = progress or silent
    job = prepare(
        src,
        out,
        Quality(quality) if isinstance(quality, str) else quality,
        calibration if calibration is None or isinstance(calibration, Calibration) else Calibration(calibration),
        key=key,
        config=config,
        metadata=metadata or {},
        threads=threads,
        force=force,
        dry_run=dry_run,
    )
    return converted(job, started, dry_run=dry_run, progress=progress)


def converted(job: Job, started: float, *, dry_run: bool = False, progress: Progress = silent) -> ConversionReport:
    """Do a conversion that was prepared, and return what it did since `started`, in seconds of `time.perf_counter`."""
    with coder_for(job, progress) as coder:
        tensors = plan(job, coder, progress)
        written = estimate(job, tensors) if dry_run else write(job, tensors, coder, progress)
    source_bytes = sum(planned.nbytes for planned in tensors)
    larger = (
        ("the file is larger than the weights it holds; keep the checkpoint",) if written.bytes > source_bytes else ()
    )
    return ConversionReport(
        path=None if dry_run else job.path,
        source_bytes=source_bytes,
        bytes=written.bytes,
        seconds=time.perf_counter() - started,
        layers=written.layers,
        marked_warnings=(*coder.warnings, *written.warnings, *job.warnings, *larger),
        left_out=job.checkpoint.left_out,
        calibration=coder.report(written.coding_seconds),
    )
