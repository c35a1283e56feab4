"""All rules about the values in a header, in one function for reader and writer: `validate`.

All sizes are Python integers. They are compared with the length of the file before anything is allocated or looped over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from bhk.codec.shape import CODED_DTYPES
from bhk.codec.streams import CHUNK_ITEMS, packed_size
from bhk.codec.trajectory import MAX_REACH, MAX_SIDE, MAX_WINDINGS, MIN_SIDE, float32
from bhk.container import errors as e
from bhk.container.header import (
    DTYPES,
    ENCODINGS,
    GRID_LATTICE,
    KINDS,
    LATTICES,
    PAIRINGS,
    ROLES,
    SCALAR_BYTES,
    CodebookEntry,
    Header,
    LayerEntry,
    StreamEntry,
)
from bhk.container.places import PREAMBLE_BYTES, place

MAX_HEADER_BYTES = 1 << 26
MAX_ENTRIES = 1 << 20
MAX_METADATA = 4096
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 32
MAX_ELEMENTS = 1 << 48
MAX_SHELLS = 255
MAX_CHUNKS = 1 << 20

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLANES = ("winding", "phase", "shell")


def validate(header: Header, header_length: int, file_length: int, *, compressed: bool) -> None:
    """Check every rule about the values of `header`.

    Args:
        header_length: H in bytes, including the padding.
        file_length: length of the file in bytes.
        compressed: whether the header is compressed, and so leaves out offsets.

    Raises:
        FormatError: its subclass for the first rule that is broken.
    """
    for what, count, limit in (
        ("layers", len(header.layers), MAX_ENTRIES),
        ("codebooks", len(header.codebooks), MAX_ENTRIES),
        ("metadata entries", len(header.metadata), MAX_METADATA),
    ):
        if count > limit:
            raise e.LimitError(f"{count} {what}", f"at most {limit}")
    for key in header.metadata:
        _check_name(key, "metadata")
    for index, codebook in enumerate(header.codebooks):
        _check_codebook(codebook, header.required_features, f"codebook {index}")
    seen: set[str] = set()
    end = PREAMBLE_BYTES + header_length
    for layer in header.layers:
        _check_layer(layer, header, seen)
        for stream in layer.streams:
            where = f"layer {layer.name!r}, stream {stream.kind}"
            end = _check_place(stream, end, file_length, where, compressed=compressed)
    if end != file_length:
        raise e.FileEndError(f"a file of {file_length} bytes", f"{end} bytes, where the last stream ends")


def _check_name(name: str, where: str) -> None:
    size = len(name.encode("utf-8", errors="surrogatepass"))  # rule H1 catches lone surrogates in the text
    if size > MAX_NAME_BYTES:
        raise e.BadNameError(f"a name of {size} bytes", f"at most {MAX_NAME_BYTES}", where)
    if _CONTROL.search(name):
        raise e.BadNameError(f"name {ascii(name)[:80]} with a control character", "printable text", where)


def _check_codebook(codebook: CodebookEntry, features: tuple[str, ...], where: str) -> None:
    if codebook.lattice not in LATTICES:
        raise e.UnknownLatticeError(f"lattice {codebook.lattice[:80]!r}", " or ".join(LATTICES), where)
    if codebook.lattice == "grid" and GRID_LATTICE not in features:
        raise e.UnknownLatticeError("lattice 'grid'", f"the required feature {GRID_LATTICE}", where)
    for number in (*codebook.centre, codebook.side, codebook.spacing):
        if not math.isfinite(number) or float32(number) != number:
            raise e.CodebookNumberError(number, "a finite float32 value", where)
    if not 1 <= codebook.windings <= MAX_WINDINGS:
        raise e.WindingsError(f"{codebook.windings} windings", f"1 to {MAX_WINDINGS}", where)
    if not 0 <= codebook.shells <= MAX_SHELLS:
        raise e.ShellsError(f"{codebook.shells} shells", f"0 to {MAX_SHELLS}", where)
    if codebook.spacing < 0 or (codebook.spacing > 0) != (codebook.shells > 0):
        expected = "a positive spacing" if codebook.shells else "spacing 0"
        raise e.ShellsError(f"{codebook.shells} shells {codebook.spacing} apart", expected, where)
    if not MIN_SIDE <= codebook.side <= MAX_SIDE:
        raise e.CodebookRangeError(f"side {codebook.side}", "2^-100 to 2^100", where)
    if max(map(abs, (*codebook.centre, codebook.shells * codebook.spacing))) > MAX_REACH:
        raise e.CodebookRangeError("centre or shells beyond 2^120", "at most 2^120", where)
    half = codebook.side / 2
    if not math.isfinite(float32(float32(half + float32(codebook.shells * codebook.spacing)) / half)):
        raise e.CodebookRangeError(f"shells {codebook.spacing} apart for side {codebook.side}", "a finite scale", where)


def _check_layer(layer: LayerEntry, header: Header, seen: set[str]) -> None:
    if len(layer.aliases) > MAX_ENTRIES:
        raise e.LimitError(f"{len(layer.aliases)} aliases", f"at most {MAX_ENTRIES}", "a layer")
    for name in (layer.name, *layer.aliases):
        _check_name(name, "layer map")
        if name in seen:
            raise e.DuplicateNameError(f"name {name!r} twice", "each name once", "layer map")
        seen.add(name)
    where = f"layer {layer.name!r}"
    _one_of(layer.dtype, DTYPES, e.UnknownDtypeError, where)
    _one_of(layer.role, ROLES, e.UnknownRoleError, where)
    _one_of(layer.encoding, ENCODINGS, e.UnknownEncodingError, where)
    _check_shape(layer.shape, where)
    if layer.encoding == "exact":
        _check_exact(layer, where)
    else:
        _check_trajectory(layer, header.codebooks, where)
    codebook = None if layer.codebook is None else header.codebooks[layer.codebook]
    for stream in layer.streams:
        place = f"{where}, stream {stream.kind}"
        _check_codec(stream, header.required_features, place)
        _check_codes(stream, codebook, place)
        _check_lengths(stream, layer, place)


def _one_of(value: str, known: Iterable[str], error: type[e.FormatError], where: str) -> None:
    if value not in known:
        raise error(repr(value[:80]), f"one of {', '.join(known)}", where)


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    if len(shape) > MAX_DIMENSIONS:
        raise e.ShapeError(f"{len(shape)} dimensions", f"at most {MAX_DIMENSIONS}", where)
    # A size of 0 counts as 1, because libraries multiply the other sizes for strides.
    if any(size < 0 for size in shape) or math.prod(max(size, 1) for size in shape) >= MAX_ELEMENTS:
        raise e.ShapeError(f"shape {list(shape)}", "sizes from 0 and fewer than 2^48 elements", where)


def _check_exact(layer: LayerEntry, where: str) -> None:
    if layer.pairing is not None:
        raise e.PairingError(f"pairing {layer.pairing[:80]!r}", "none in an exact layer", where)
    if layer.codebook is not None:
        raise e.CodebookReferenceError(f"codebook {layer.codebook}", "none in an exact layer", where)
    if layer.error is not None:
        raise e.MeasuredErrorError("an error", "none in an exact layer", where)
    kinds = tuple(stream.kind for stream in layer.streams)
    _check_kinds(kinds, [("values",)] if layer.numel else [()], where)


def _check_trajectory(layer: LayerEntry, codebooks: tuple[CodebookEntry, ...], where: str) -> None:
    if layer.dtype not in CODED_DTYPES or not layer.numel:
        expected = f"{', '.join(CODED_DTYPES)}, with elements"
        raise e.TrajectoryTensorError(f"dtype {layer.dtype}, {layer.numel} elements", expected, where)
    if layer.pairing not in PAIRINGS or (layer.pairing == "rows" and len(layer.shape) < 2):
        found = f"pairing {str(layer.pairing)[:80]!r} with {len(layer.shape)} dimensions"
        raise e.PairingError(found, "flat, or rows with two or more", where)
    if layer.codebook is None or not 0 <= layer.codebook < len(codebooks):
        raise e.CodebookReferenceError(f"codebook {layer.codebook}", f"0 to {len(codebooks) - 1}", where)
    if layer.error is None or min(layer.error.mean_abs, layer.error.max_abs) < 0:
        raise e.MeasuredErrorError("no error" if layer.error is None else "a negative error", "errors from 0", where)
    shell = ("shell",) if codebooks[layer.codebook].shells else ()
    in_bytes = any(stream.is_scalar_bytes for stream in layer.streams[:1])
    sets = [("winding", "phase", *shell), ("codes", *shell) if in_bytes else ("codes",)]
    _check_kinds(tuple(stream.kind for stream in layer.streams), sets, where)


def _check_kinds(kinds: tuple[str, ...], sets: list[tuple[str, ...]], where: str) -> None:
    for kind in kinds:
        _one_of(kind, KINDS, e.UnknownStreamKindError, where)
    if kinds not in sets:
        expected = " or ".join(", ".join(kinds) or "none" for kinds in sets)
        raise e.StreamSetError(f"streams {', '.join(kinds[:8]) or 'none'}", expected, where)


def _check_codec(stream: StreamEntry, features: tuple[str, ...], where: str) -> None:
    codecs = {"codes": ("packed",), "values": ("none", "zstd", "shuffle+zstd")}.get(stream.kind, ("zstd",))
    if stream.is_scalar_bytes and SCALAR_BYTES not in features:
        raise e.UnknownCodecError("'zstd'", f"packed, or the required feature {SCALAR_BYTES}", where)
    if not stream.is_scalar_bytes:
        _one_of(stream.codec, codecs, e.UnknownCodecError, where)


def _check_codes(stream: StreamEntry, codebook: CodebookEntry | None, where: str) -> None:
    """Check the numbers that say how a stream holds codes."""
    if stream.codec == "packed" and codebook is not None:
        most = max(1, ((codebook.shells + 1) * codebook.windings**2 - 1).bit_length())
        if not 1 <= stream.bits <= most:
            raise e.BitsError(f"{stream.bits} bits", f"1 to {most}", where)
    elif stream.bits:
        raise e.BitsError(f"{stream.bits} bits", "none in this kind of stream", where)
    if stream.is_scalar_bytes and codebook is not None:
        n = codebook.windings
        if stream.window is None:
            raise e.WindowError("no window", "[q0, r0, R]", where)
        winding, phase, phases = stream.window
        if not (0 <= winding < n and phase >= 0 and phases >= 1 and phase + phases <= n):
            raise e.WindowError(f"window {list(stream.window)}", f"a window within {n} windings and phases", where)
    elif stream.window is not None:
        raise e.WindowError(f"window {list(stream.window)}", "none in this kind of stream", where)


def _check_lengths(stream: StreamEntry, layer: LayerEntry, where: str) -> None:
    if not 1 <= stream.chunk <= CHUNK_ITEMS:
        raise e.ChunkError(f"chunks of {stream.chunk} items", f"1 to {CHUNK_ITEMS}", where)
    items = layer.numel if stream.kind == "values" else layer.pairs.count
    count = -(-items // stream.chunk)
    if count > MAX_CHUNKS:
        raise e.ChunkError(f"{count} chunks", f"at most {MAX_CHUNKS}", where)
    if stream.codec == "packed":
        last = items - (count - 1) * stream.chunk
        decoded = (count - 1) * packed_size(stream.chunk, stream.bits) + packed_size(last, stream.bits)
    else:
        decoded = items * layer.item_bytes
    if stream.decoded != decoded:
        raise e.DecodedLengthError(f"{stream.decoded} bytes decoded", f"{decoded} bytes", where)
    compressed = "zstd" in stream.codec
    lengths = stream.chunks or ((stream.stored,) if compressed and count == 1 else ())
    if len(lengths) != (count if compressed else 0) or any(length < 1 for length in lengths):
        expected = f"{count} positive lengths" if compressed else "none"
        raise e.ChunkError(f"{len(lengths)} chunk lengths", expected, where)
    stored = sum(lengths) if compressed else decoded
    if stream.stored != stored:
        raise e.StoredLengthError(f"{stream.stored} bytes stored", f"{stored} bytes", where)
    if not _SHA256.fullmatch(stream.sha256):
        raise e.HashSyntaxError(repr(stream.sha256[:80]), "64 lower-case hexadecimal digits", where)


def _check_place(stream: StreamEntry, end: int, file_length: int, where: str, *, compressed: bool) -> int:
    """Check the place of `stream` after the previous one, which ends at `end`; return its own end."""
    start = place(stream.codec, end, compressed=compressed)
    if stream.offset != (0 if compressed else start):
        expected = "none in a compressed header" if compressed else start
        raise e.StreamOffsetError(f"offset {stream.offset}", expected, where)
    if start + stream.stored > file_length:
        raise e.FileEndError(f"a stream that ends at {start + stream.stored}", f"at most {file_length}", where)
    return start + stream.stored
