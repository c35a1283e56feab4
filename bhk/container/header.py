"""The typed header of a .bhk file, and its conversion from and to JSON.

Source: format_spec/README.md. Field names and JSON types are those of the specification; `validate.py` has the rules about
values.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import msgspec

from bhk.codec.shape import Shape
from bhk.codec.streams import CHUNK_ITEMS, packed_size
from bhk.codec.trajectory import Lattice
from bhk.container.errors import FieldTypeError, FormatError, HeaderSyntaxError, UnknownFeatureError, UnknownKeyError
from bhk.container.header_text import load_object

# Bytes per element. The names are those of safetensors.
DTYPES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "C64": 8,
    "C128": 16,
}
ROLES = ("linear", "conv", "embedding", "norm", "bias", "buffer", "other")
ENCODINGS = ("trajectory", "exact")
PAIRINGS = ("rows", "flat")
LATTICES: tuple[Lattice, ...] = ("centred", "corner", "grid")
KINDS = ("winding", "phase", "shell", "codes", "values")

# The largest integer that every JSON library keeps exactly.
MAX_INTEGER = (1 << 53) - 1
Integer = Annotated[int, msgspec.Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]

# Pairs coded as bytes of a square of at most 256 steps: a stream `codes` of codec zstd.
SCALAR_BYTES = "scalar-bytes"
# Codebooks whose lattice is a grid.
GRID_LATTICE = "grid-lattice"
KNOWN_FEATURES = frozenset({SCALAR_BYTES, GRID_LATTICE})

# The wording of msgspec's errors. A key is free text; a place is not.
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISTYPED = re.compile(r"Expected (.*?)(?:, got (.*))?")
_MISSING = re.compile(r"Object missing required field (.*)")
_PLACE = re.compile(r" - at `(\$[\w.\[\]]*)`\Z")


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base class of the header's objects: immutable; fields with their default value are not written."""


class StreamEntry(_Entry, frozen=True):
    """The place and the coding of a stream. Lengths and offset are in bytes.

    Attributes:
        chunk: items (pairs, or elements of an exact tensor) in each chunk except the last.
        chunks: stored length of each chunk, for the codecs with zstd; may be left out for a single chunk.
        bits: bits per code, for codec packed.
        window: [q0, r0, R] for scalar bytes: byte b is the winding q0 + b div R at phase r0 + b mod R.
        offset: place in the file. A compressed header leaves it out, and `placed` computes it.
    """

    kind: str
    stored: Integer
    decoded: Integer
    sha256: str
    codec: str = "zstd"
    chunk: Integer = CHUNK_ITEMS
    chunks: tuple[Integer, ...] = ()
    bits: Integer = 0
    window: tuple[Integer, Integer, Integer] | None = None
    offset: Integer = 0

    @property
    def is_scalar_bytes(self) -> bool:
        """Whether each byte of the stream stands for a pair."""
        return self.kind == "codes" and self.codec == "zstd"

    def chunk_lengths(self, width: int) -> list[tuple[int, int]]:
        """Return the (stored, decoded) length of each chunk, for items of `width` decoded bytes (unused for packed)."""
        full = packed_size(self.chunk, self.bits) if self.codec == "packed" else self.chunk * width
        decoded = [min(full, self.decoded - start) for start in range(0, self.decoded, full)]
        stored = self.chunks or ((self.stored,) if len(decoded) == 1 else decoded)
        return list(zip(stored, decoded, strict=True))


class ErrorEntry(_Entry, frozen=True):
    """The error of a trajectory layer, as measured by the writer. `snr_db` is null if signal or error is zero."""

    mean_abs: float
    max_abs: float
    snr_db: float | None = None


class LayerEntry(_Entry, frozen=True):
    """The entry of a tensor in the layer map.

    Attributes:
        name: the tensor's name in the checkpoint.
        shape, dtype: those of the original tensor; dtypes are named as in safetensors, such as "F16".
        role: what the tensor is for, such as "linear".
        encoding: "trajectory" if the tensor is coded, else "exact".
        pairing: how weights are taken in pairs, "rows" or "flat"; None for an exact tensor.
        codebook: number of the codebook among those of the file; None for an exact tensor.
        streams: places and lengths of the data.
        error: mean and largest absolute error, and signal-to-noise ratio in dB, as the writer measured them; None for an
            exact tensor.
        aliases: names of tensors that are tied to this one.
    """

    name: str
    shape: tuple[Integer, ...]
    dtype: str
    role: str
    encoding: str
    pairing: str | None = None
    codebook: Integer | None = None
    streams: tuple[StreamEntry, ...] = ()
    error: ErrorEntry | None = None
    aliases: tuple[str, ...] = ()

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """Size of the original tensor in bytes."""
        return self.numel * DTYPES[self.dtype]

    @property
    def stored_bytes(self) -> int:
        """Size of the streams in bytes."""
        return sum(stream.stored for stream in self.streams)

    @property
    def pairs(self) -> Shape:
        """How the tensor of a trajectory layer is divided into pairs."""
        return Shape(self.shape, "rows" if self.pairing == "rows" else "flat")

    @property
    def items(self) -> int:
        """The number of items of the layer's streams: pairs, or elements of an exact tensor."""
        return self.numel if self.encoding == "exact" else self.pairs.count

    @property
    def item_bytes(self) -> int:
        """Decoded bytes per item of the layer's plane or value streams."""
        return DTYPES[self.dtype] if self.encoding == "exact" else 1


class CodebookEntry(_Entry, frozen=True):
    """A codebook, as `bhk.codec.codebook.Codebook` describes it."""

    centre: tuple[float, float]
    side: float
    windings: Integer
    lattice: str = "centred"
    shells: Integer = 0
    spacing: float = 0.0


class ModelEntry(_Entry, frozen=True):
    """What a loader needs to build the module: family, variant, and arguments of the builder."""

    family: str
    variant: str | None = None
    arguments: dict[str, Any] = {}


class Header(_Entry, frozen=True):
    """The header of a .bhk file."""

    generator: str
    layers: tuple[LayerEntry, ...]
    codebooks: tuple[CodebookEntry, ...] = ()
    required_features: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    model: ModelEntry | None = None


def to_json(header: Header) -> bytes:
    """Return the header as JSON text in UTF-8.

    Raises:
        HeaderSyntaxError: a string is not valid Unicode.
    """
    try:
        return msgspec.json.encode(header)
    except UnicodeEncodeError as error:
        raise HeaderSyntaxError(f"text {ascii(error.object)[:80]} with a lone surrogate", "Unicode text") from None


def parse(data: bytes) -> Header:
    """Return the typed header in the JSON text `data`; its values are not validated yet.

    Raises:
        HeaderSyntaxError, DuplicateKeyError, UnknownFeatureError, UnknownKeyError, FieldTypeError: rules H1 to H5.
    """
    value = load_object(data)
    _check_features(value.get("required_features"))
    try:
        return msgspec.convert(_without_extensions(value), Header, strict=True)
    except msgspec.ValidationError as error:
        raise _type_error(str(error)) from None


def _check_features(features: Any) -> None:
    """Check rule H5 before H3 and H4, because a feature may add keys. Wrong types are left to H4."""
    for feature in features if isinstance(features, list) else ():
        if isinstance(feature, str) and feature not in KNOWN_FEATURES:
            raise UnknownFeatureError(f"feature {feature[:80]!r}", "a feature this version knows; update bhk")


def _type_error(message: str) -> FormatError:
    place = _PLACE.search(message)
    where = place[1] if place else "header"
    what = message[: place.start()] if place else message
    if unknown := _UNKNOWN.fullmatch(what):
        return UnknownKeyError(f"key {unknown[1][:80]!r}", "only keys of the format, or x-…", where)
    if mistyped := _MISTYPED.fullmatch(what):
        return FieldTypeError(mistyped[2] or "another value", mistyped[1], where)
    if missing := _MISSING.fullmatch(what):
        return FieldTypeError(f"no field {missing[1]}", "every required field", where)
    return FieldTypeError(what, "the fields and types of the format", where)


def _without_extensions(value: Any) -> Any:
    """Return `value` without the keys `x-…` of the format's own objects. Maps with free keys stay complete."""
    if isinstance(value, list):
        return [_without_extensions(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: item if key in ("metadata", "arguments") else _without_extensions(item)
        for key, item in value.items()
        if not key.startswith("x-")
    }
