"""The items of a plan into a .bhk file."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import msgspec

from bhk.base.files import replace_file
from bhk.base.hashes import sha256
from bhk.base.parallel import background, ordered_map
from bhk.base.progress import Progress
from bhk.checkpoint import Checkpoint
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.estimate import estimate
from bhk.codec.fit import sample_tensor
from bhk.codec.tensor import EncodedTensor, keep
from bhk.container.header import CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry
from bhk.container.header_size import max_header_size, rounded
from bhk.container.writer import ContainerWriter
from bhk.conversion.coder import Coder
from bhk.conversion.plan import Item
from bhk.file.codebooks import entry_of


def outline_of(item: Item) -> LayerEntry:
    """Return what is known of a layer before it is encoded."""
    name, *aliases = item.names
    encoding = "trajectory" if item.coded else "exact"
    dtype = DTYPE_NAMES[item.tensor.dtype]
    return LayerEntry(name, tuple(item.tensor.shape), dtype, item.role, encoding, aliases=tuple(aliases))


def estimated(item: Item) -> float:
    """Return about how many bytes the streams of an item will take."""
    if not item.coded:
        return keep(item.tensor).nbytes
    return min(estimate(sample_tensor(item.tensor), item.pairs, item.step), item.nbytes)


def write(
    path: Path,
    checkpoint: Checkpoint,
    outline: Header,
    items: list[Item],
    coder: Coder,
    threads: int,
    force: bool,
    progress: Progress,
) -> tuple[tuple[LayerEntry, ...], int, tuple[str, ...]]:
    """Encode and write every item; return the layer map, the size of the file and the warnings."""
    layers: list[LayerEntry] = []
    codebooks: dict[CodebookEntry, int] = {}
    warnings = list(coder.warnings)
    done, total = 0, sum(item.nbytes for item in items)
    with background(partial(sha256, checkpoint.source.files)) as digest, replace_file(path, force=force) as file:
        writer = ContainerWriter(file, max_header_size(outline))
        for item, layer, encoded in zip(items, outline.layers, ordered_map(coder, items, threads), strict=True):
            layers.append(_layer(layer, encoded, codebooks, writer.write(encoded.streams)))
            if encoded.note:
                warnings.append(f"{item.names[0]} {encoded.note}; it is kept exact")
            done += item.nbytes
            progress("Encoding", done, total)
        metadata = {**outline.metadata, **({"source.sha256": digest()} if checkpoint.source.files else {})}
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
    index = codebooks.setdefault(entry_of(encoded.codebook), len(codebooks))
    return msgspec.structs.replace(skeleton, streams=streams, pairing=encoded.pairing, codebook=index, error=error)
