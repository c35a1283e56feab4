"""The header of a .bhk file before its tensors are encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bhk.base.errors import OptionError
from bhk.checkpoint import Checkpoint
from bhk.checkpoint.companions import KEY as COMPANION_KEY
from bhk.checkpoint.terms import TERMS_KEY
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.container.header import Header, LayerEntry, ModelEntry
from bhk.container.header_size import likely_header_size
from bhk.container.places import PREAMBLE_BYTES
from bhk.container.provenance import KEY as CONVERSION_KEY
from bhk.container.validate import validate
from bhk.conversion.selection import PlannedTensor
from bhk.version import __version__

# How the keys of `Layout.to_metadata`, `companions_beside`, `terms_beside` and `provenance` begin.
OWN_KEYS = ("checkpoint.", COMPANION_KEY, CONVERSION_KEY)
_CODED_STREAMS = 2  # winding and phase
_STREAM_BYTES = 42  # what the entry of a stream adds to the compressed header, mostly its hash
_SOURCE_KEYS = ("source.name", "source.dtype", TERMS_KEY)
_FILE_KEYS = ("source.bytes", "source.sha256")


class MetadataError(OptionError):
    """An entry of the metadata is one that bhk writes itself."""


def check_metadata(metadata: Mapping[str, str], *, of_files: bool) -> None:
    """Check that no entry is one that bhk writes itself; `of_files` is false if the source is a module.

    Raises:
        MetadataError: one is.
    """
    own = (*_SOURCE_KEYS, *_FILE_KEYS) if of_files else _SOURCE_KEYS
    for key in metadata:
        if key in own or key.startswith(OWN_KEYS):
            raise MetadataError(f"bhk writes the metadata entry {key!r} itself; choose another key")


def start_header(
    checkpoint: Checkpoint,
    model: ModelEntry | None,
    beside: Mapping[str, str],
    metadata: Mapping[str, str],
    provenance: Mapping[str, str],
) -> Header:
    """Return the header without its layers, and with zeros in place of the source's hash.

    `beside` are entries for files beside the source, `metadata` are entries that `check_metadata` allows, and `provenance` says
    how the file is made.

    Raises:
        FormatError: the format does not allow the name of a tensor or of an entry of `metadata`.
    """
    dtypes = sorted({DTYPE_NAMES[tensor.dtype] for tensor in checkpoint.tensors.values()})
    source = {
        "source.name": checkpoint.source.name.encode(errors="replace").decode(),  # file names need not be Unicode
        "source.dtype": ",".join(dtypes),
    }
    if checkpoint.source.files:
        source |= {"source.bytes": str(checkpoint.source.size), "source.sha256": "0" * 64}
    header = Header(
        generator=f"bhk {__version__}",
        layers=(),
        metadata={**source, **checkpoint.layout.to_metadata(), **beside, **metadata, **provenance},
        model=model,
    )
    _check_names(header, checkpoint)
    return header


def _check_names(header: Header, checkpoint: Checkpoint) -> None:
    """Raise now what the writer would raise after everything is encoded."""
    layers = tuple(
        LayerEntry(name, (0,), "U8", "other", "exact", aliases=checkpoint.aliases.get(name, ()))
        for name in checkpoint.tensors
    )
    validate(msgspec.structs.replace(header, layers=layers), 0, PREAMBLE_BYTES, compressed=True)


def with_layers(header: Header, tensors: Sequence[PlannedTensor]) -> Header:
    """Return a header with what is known about each layer before it is encoded."""
    return msgspec.structs.replace(header, layers=tuple(map(_layer, tensors)))


def _layer(planned: PlannedTensor) -> LayerEntry:
    name, *aliases = planned.names
    encoding = "trajectory" if planned.coded else "exact"
    dtype = DTYPE_NAMES[planned.stored.dtype]
    return LayerEntry(name, tuple(planned.stored.shape), dtype, planned.role, encoding, aliases=tuple(aliases))


def overhead(header: Header) -> int:
    """Estimate the bytes of a file besides its streams, from a header with layers, if coded tensors have two streams each.

    Most streams are compressed and need no padding; the padding of the others is left out.
    """
    return PREAMBLE_BYTES + likely_header_size(header)


def with_entries(stored: float, streams: int) -> float:
    """Return the bytes of a coded tensor with what more or fewer than two streams add to `overhead`."""
    return stored + (streams - _CODED_STREAMS) * _STREAM_BYTES
