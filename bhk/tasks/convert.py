"""A checkpoint to a .bhk file: `bhk.convert`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from bhk.checkpoint import Checkpoint, UnsupportedTensorError
from bhk.checkpoint.digest import sha256
from bhk.checkpoint.folder import INDEX_SUFFIX
from bhk.checkpoint.hub import parse_address
from bhk.codec.codebook import Codebook
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.estimate import estimate
from bhk.codec.fit import sample_tensor
from bhk.codec.tensor import EncodedTensor, encode_tensor, keep
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, ModelEntry, StreamEntry
from bhk.container.room import header_estimate, header_room, rounded
from bhk.container.validate import ALIGNMENT, PREAMBLE_BYTES, validate
from bhk.container.writer import ContainerWriter
from bhk.errors import BhkError
from bhk.files import WriteError, check_destination, replace_file
from bhk.parallel import background, ordered_map, worker_count
from bhk.sam.checkpoints import read_checkpoint
from bhk.sam.configuration import FILE as CONFIG
from bhk.sam.configuration import deviations
from bhk.sam.recognise import Recognised
from bhk.tasks.plan import Item, Quality, plan
from bhk.version import __version__

SUFFIX = ".bhk"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".zip")
LAYOUT_KEYS = "checkpoint."  # how the names of what `Layout.to_metadata` writes begin

Progress = Callable[[int, int], None]


class MetadataError(BhkError):
    """An entry of the metadata that is not the user's to choose."""


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        path: the .bhk file; None after a dry run.
        source_bytes: bytes of the dense tensors, each once.
        bytes: size of the .bhk file; estimated in a dry run.
        seconds: wall time.
        layers: the layer map; in a dry run without streams and errors.
        warnings: tensors that could not be coded and why, in words.
        left_out: what the checkpoint held beside its weights, in words.
    """

    path: Path | None
    source_bytes: int
    bytes: int
    seconds: float
    layers: tuple[LayerEntry, ...] = field(repr=False)
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the dense tensors."""
        return self.source_bytes / self.bytes

    @property
    def coded(self) -> int:
        """Number of tensors coded on a trajectory."""
        return sum(layer.encoding == "trajectory" for layer in self.layers)


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    preset: str = "balanced",
    snr: float | None = None,
    ratio: float | None = None,
    exact: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    snr_for: Mapping[str, float] | None = None,
    key: str | None = None,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a checkpoint into a .bhk file.

    Args:
        src: a .pth, .pt, .bin or .safetensors file, a folder of shards, a zip with one of them, or a Hub id.
        dst: the file to write; by default the source's name with the suffix .bhk, beside it (of a Hub id: here).
        preset: "fine", "balanced", "small" or "birkhoff" (the published method).
        snr: signal-to-noise ratio of the model in dB instead of the preset's.
        ratio: size of the dense tensors over the size of the file instead; met within 1 %.
        exact: patterns (as in fnmatch) of tensor names to keep exact.
        only: patterns of the only tensors to code.
        snr_for: signal-to-noise ratio in dB for the tensors that match a pattern; the last match counts.
        key: which state dict, when the checkpoint holds several ("ema", "model.state_dict").
        metadata: more entries for the file's metadata, such as {"licence": "Apache-2.0"}.
        threads: worker threads; by default one a core. The bytes written do not depend on it.
        force: replace `dst` if it exists.
        dry_run: estimate the sizes, write nothing.
        progress: called with (bytes of dense tensors done, all bytes).

    Raises:
        CheckpointError: the source cannot be read, holds no tensors, is ambiguous or not safe to load.
        PresetError, PatternError: the quality asked for is unknown, out of reach, or matches no tensor.
        MetadataError: an entry of `metadata` is one that bhk writes itself.
        FormatError: the format does not allow the name of a tensor or of an entry of `metadata`.
        WriteError: the destination exists, is the source, or cannot be written; it is left as it was.
    """
    started = time.perf_counter()
    quality = Quality(preset, snr, ratio, _patterns(exact), _patterns(only), dict(snr_for or {}))
    workers = worker_count(threads)
    if dst is not None and not dry_run:
        check_destination(Path(dst), force=force)
    checkpoint, recognised = read_checkpoint(src, key)
    path = Path(dst) if dst is not None else _default_destination(src)
    if not dry_run:
        check_destination(path, force=force, sources=checkpoint.source.inputs)
        if path.suffix in CHECKPOINT_SUFFIXES:
            raise WriteError(f"{path} has the name of a checkpoint; give the .bhk file a name that ends in {SUFFIX}")
    _check_tensors(checkpoint)
    odd = deviations(recognised.family.name, checkpoint.source.files[0].parent) if recognised else ()
    template = _template(checkpoint, None if recognised is None else _entry(recognised, odd), metadata or {})
    _check_names(checkpoint, template)

    def outline(items: Sequence[Item]) -> Header:
        return msgspec.structs.replace(template, layers=tuple(map(_skeleton, items)))

    def overhead(items: Sequence[Item]) -> int:
        streams = sum(2 if item.coded else 1 for item in items)
        padding = ALIGNMENT // 2 * (streams + 1)  # half a unit on average
        return PREAMBLE_BYTES + header_estimate(outline(items)) + padding

    finer_db = recognised.finer_db if recognised else lambda name: 0.0
    items = plan(checkpoint.tensors, checkpoint.aliases, quality, finer_db, overhead, workers)
    dense = sum(item.nbytes for item in items)
    if dry_run:
        size = overhead(items) + round(sum(ordered_map(_estimate, items, workers)))
        layers, warnings = tuple(map(_skeleton, items)), tuple[str, ...]()
    else:
        layers, size, warnings = _write(path, checkpoint, outline(items), items, workers, force, progress)
    if odd:
        advice = "load the file into a module of transformers with bhk.load_into"
        warnings = (*warnings, f"{CONFIG} has {', '.join(odd)}, which bhk.load does not rebuild; {advice}")
    seconds = time.perf_counter() - started
    return ConversionReport(None if dry_run else path, dense, size, seconds, layers, warnings, checkpoint.left_out)


def _patterns(patterns: str | Iterable[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _default_destination(src: str | os.PathLike[str]) -> Path:
    """Return the source's name with the suffix .bhk, beside it; for a Hub id, in the current folder."""
    local = Path(src)
    if not local.exists():
        address = parse_address(os.fsdecode(src))
        return Path(_stem(PurePosixPath(address.path or address.repository).name) + SUFFIX)
    if local.is_dir():
        return local.parent / (local.resolve().name + SUFFIX)
    return local.with_name(_stem(local.name) + SUFFIX)


def _stem(name: str) -> str:
    stem = name.removesuffix(INDEX_SUFFIX)
    while (suffix := Path(stem).suffix) in CHECKPOINT_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _check_tensors(checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.rpartition(".")
        if last == "codes" and f"{layer}.codebook" in checkpoint.tensors and f"{layer}.outliers" in checkpoint.tensors:
            raise UnsupportedTensorError(
                f"{layer!r} is a HyperLinear layer, coded already; put layer.to_linear() in its place before the model is saved"
            )
        if tensor.dtype not in DTYPE_NAMES:
            raise UnsupportedTensorError(
                f"tensor {name!r} is {tensor.dtype}, which .bhk lacks; convert it in the program that made the checkpoint"
            )


def _check_names(checkpoint: Checkpoint, template: Header) -> None:
    """Raise now what the writer would raise when all is encoded."""
    layers = tuple(
        LayerEntry(name, (0,), "U8", "other", "exact", aliases=checkpoint.aliases.get(name, ()))
        for name in checkpoint.tensors
    )
    validate(msgspec.structs.replace(template, layers=layers), 0, PREAMBLE_BYTES)


def _entry(recognised: Recognised, odd: Sequence[str]) -> ModelEntry:
    """Return what the header says of the model: not its sizes where they would build another one."""
    return ModelEntry(recognised.family.name) if odd else recognised.entry


def _template(checkpoint: Checkpoint, model: ModelEntry | None, metadata: Mapping[str, str]) -> Header:
    """Return the header without its layers; the source's hash is filled in when it is known."""
    dtypes = sorted({DTYPE_NAMES[tensor.dtype] for tensor in checkpoint.tensors.values()})
    source = {
        "source.name": checkpoint.source.name.encode(errors="replace").decode(),  # names of files need not be Unicode
        "source.bytes": str(checkpoint.source.size),
        "source.dtype": ",".join(dtypes),
        "source.sha256": "0" * 64,
    }
    for key in metadata:
        if key in source or key.startswith(LAYOUT_KEYS):
            raise MetadataError(f"metadata entry {key!r} is one that bhk writes itself; choose another key")
    return Header(
        generator=f"bhk {__version__}",
        layers=(),
        metadata={**source, **checkpoint.layout.to_metadata(), **metadata},
        model=model,
    )


def _skeleton(item: Item) -> LayerEntry:
    name, *aliases = item.names
    encoding = "trajectory" if item.coded else "exact"
    dtype = DTYPE_NAMES[item.tensor.dtype]
    return LayerEntry(name, tuple(item.tensor.shape), dtype, item.role, encoding, aliases=tuple(aliases))


def _encode(item: Item) -> EncodedTensor:
    return encode_tensor(item.tensor, item.pairing, item.step) if item.coded else keep(item.tensor)


def _estimate(item: Item) -> float:
    if not item.coded:
        return keep(item.tensor).nbytes
    return min(estimate(sample_tensor(item.tensor), item.pairs, item.step), item.nbytes)


def _write(
    path: Path,
    checkpoint: Checkpoint,
    outline: Header,
    items: list[Item],
    threads: int,
    force: bool,
    progress: Progress | None,
) -> tuple[tuple[LayerEntry, ...], int, tuple[str, ...]]:
    """Encode and write every item; return the layer map, the size of the file and the warnings."""
    layers: list[LayerEntry] = []
    codebooks: dict[CodebookEntry, int] = {}
    warnings = []
    done, total = 0, sum(item.nbytes for item in items)
    with background(partial(sha256, checkpoint.source.files)) as digest, replace_file(path, force=force) as file:
        writer = ContainerWriter(file, header_room(outline))
        for item, layer, encoded in zip(items, outline.layers, ordered_map(_encode, items, threads), strict=True):
            layers.append(_layer(layer, encoded, codebooks, writer.write(encoded.streams)))
            if encoded.note:
                warnings.append(f"{item.names[0]} {encoded.note}; it is kept exact")
            done += item.nbytes
            if progress:
                progress(done, total)
        metadata = {**outline.metadata, "source.sha256": digest()}
        header = msgspec.structs.replace(outline, layers=tuple(layers), codebooks=tuple(codebooks), metadata=metadata)
        header, size = writer.finish(header)
    return header.layers, size, tuple(warnings)


def _layer(
    skeleton: LayerEntry,
    encoded: EncodedTensor,
    codebooks: dict[CodebookEntry, int],
    streams: tuple[StreamEntry, ...],
) -> LayerEntry:
    """Fill in what coding a tensor yields; its codebook joins `codebooks`, the index of each, unless it is there already."""
    if encoded.error is None or encoded.codebook is None:
        return msgspec.structs.replace(skeleton, encoding="exact", streams=streams)
    snr = encoded.error.snr_db
    error = ErrorEntry(
        rounded(encoded.error.mean_abs), rounded(encoded.error.max_abs), rounded(snr) if math.isfinite(snr) else None
    )
    index = codebooks.setdefault(_codebook(encoded.codebook), len(codebooks))
    return msgspec.structs.replace(skeleton, streams=streams, pairing=encoded.pairing, codebook=index, error=error)


def _codebook(codebook: Codebook) -> CodebookEntry:
    lattice = "centred" if codebook.centred else "corner"
    square = CodebookEntry(codebook.centre, codebook.side, codebook.windings, lattice)
    if not codebook.shells:
        return square
    return msgspec.structs.replace(square, shells=codebook.shells, spacing=codebook.spacing)
