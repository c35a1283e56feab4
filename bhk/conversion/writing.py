"""The third step of a conversion: encode the tensors and write the file, or estimate its size."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from bhk.base.errors import listed
from bhk.base.files import replace_file
from bhk.base.hashes import sha256
from bhk.base.parallel import background, ordered_map
from bhk.base.progress import Progress
from bhk.codec.estimate import estimate as estimate_coded
from bhk.codec.fit import sample_tensor
from bhk.codec.tensor import EncodedTensor, keep
from bhk.container.errors import FormatError
from bhk.container.header import CodebookEntry, ErrorEntry, LayerEntry, StreamEntry
from bhk.container.header_size import max_header_size, rounded
from bhk.container.reader import Container, is_bhk
from bhk.container.writer import ContainerWriter
from bhk.conversion.coder import Coder
from bhk.conversion.header import overhead, with_entries, with_layers
from bhk.conversion.prepare import Job
from bhk.conversion.quality import Quality
from bhk.conversion.selection import PlannedTensor
from bhk.file.codebooks import entry_of
from bhk.pictures.prompted import KINDS


@dataclass(frozen=True)
class Written:
    """A file that was written, or one whose size was estimated.

    Attributes:
        layers: the layer map; without streams and errors in an estimate.
        bytes: size of the file.
        warnings: tensors that could not be coded, and why.
        coding_seconds: tensor name -> wall time of encoding it; empty in an estimate.
    """

    layers: tuple[LayerEntry, ...]
    bytes: int
    warnings: tuple[str, ...]
    coding_seconds: Mapping[str, float]


def estimate(job: Job, tensors: Sequence[PlannedTensor]) -> Written:
    """Estimate the size of the file from samples of the tensors."""
    header = with_layers(job.header, tensors)
    size = overhead(header) + round(sum(ordered_map(_estimate_streams, tensors, job.threads)))
    return Written(header.layers, size, (), {})


def _estimate_streams(planned: PlannedTensor) -> float:
    if not planned.coded:
        return keep(planned.tensor).nbytes
    return min(
        with_entries(*estimate_coded(sample_tensor(planned.tensor), planned.pairs, planned.step)), planned.nbytes
    )


def is_written(job: Job) -> bool:
    """Tell whether the file of a job is there already, from the same source, by the same bhk and with the same options.

    The headers are compared, with the hash of the source. Pictures of one's own are not, so a file that was calibrated with
    them counts as another one.
    """
    if _has_own_samples(job) or not (job.path.is_file() and is_bhk(job.path)):
        return False
    try:
        with Container.open(job.path) as container:
            found = container.header
    except FormatError:
        return False
    hashed = {name: found.metadata[name] for name in ("source.sha256",) if name in found.metadata}
    same = (found.generator, found.model, found.metadata) == (
        job.header.generator,
        job.header.model,
        {**job.header.metadata, **hashed},
    )
    return same and hashed == {"source.sha256": sha256(job.checkpoint.source.files)}


def _has_own_samples(job: Job) -> bool:
    calibration = None if job.evidence is None else job.evidence.calibration
    return calibration is not None and calibration.samples not in KINDS


def write(job: Job, tensors: Sequence[PlannedTensor], coder: Coder, progress: Progress) -> Written:
    """Encode all tensors and write the file; hash the source files meanwhile.

    Raises:
        ChangedError: the source was changed meanwhile.
        WriteError: the file cannot be written; what was there before is unchanged.
    """

    def encode(planned: PlannedTensor) -> tuple[EncodedTensor, float]:
        started = time.perf_counter()
        return coder.encode(planned), time.perf_counter() - started

    outline = with_layers(job.header, tensors)
    layers: list[LayerEntry] = []
    codebooks: dict[CodebookEntry, int] = {}
    warnings: list[str] = []
    lost: list[str] = []
    seconds: dict[str, float] = {}
    done, total = 0, sum(planned.nbytes for planned in tensors)
    files = job.checkpoint.source.files
    with background(partial(sha256, files)) as digest, replace_file(job.path, force=job.force) as file:
        writer = ContainerWriter(file, max_header_size(outline))
        for planned, layer, (encoded, taken) in zip(
            tensors, outline.layers, ordered_map(encode, tensors, job.threads), strict=True
        ):
            layers.append(_layer(layer, encoded, codebooks, writer.write(encoded.streams)))
            if encoded.note:
                warnings.append(f"{planned.name} {encoded.note}; it is kept exact")
            if encoded.lost_zeros:
                lost.append(planned.name)
            if planned.coded:
                seconds[planned.name] = taken
            done += planned.nbytes
            progress("Encoding", done, total)
        metadata = {**outline.metadata, **({"source.sha256": digest()} if files else {})}
        job.checkpoint.source.check()  # so the hash is that of what was encoded
        header = msgspec.structs.replace(outline, layers=tuple(layers), codebooks=tuple(codebooks), metadata=metadata)
        header, size = writer.finish(header)
    return Written(header.layers, size, (*warnings, *_about_zeros(lost, job.quality)), seconds)


def _about_zeros(lost: Sequence[str], quality: Quality) -> Iterator[str]:
    """Yield a warning about tensors some of whose zeros decode to other values."""
    if lost:
        reason = "their other weights lie too far from zero; keep them exact"
        if quality.is_published:
            reason = "the published method has no point at zero; choose another preset"
        yield f"zeros become other values in {listed(lost, 5)}, because {reason}"


def _layer(
    outline: LayerEntry,
    encoded: EncodedTensor,
    codebooks: dict[CodebookEntry, int],
    streams: tuple[StreamEntry, ...],
) -> LayerEntry:
    """Add to a layer what encoding gave, and add its codebook to `codebooks` (codebook -> index) if it is new."""
    if encoded.error is None or encoded.codebook is None:
        return msgspec.structs.replace(outline, encoding="exact", streams=streams)
    snr_db = encoded.error.snr_db
    error = ErrorEntry(
        rounded(encoded.error.mean_abs),
        rounded(encoded.error.max_abs),
        rounded(snr_db) if math.isfinite(snr_db) else None,
    )
    index = codebooks.setdefault(entry_of(encoded.codebook), len(codebooks))
    return msgspec.structs.replace(outline, streams=streams, pairing=encoded.pairing, codebook=index, error=error)
