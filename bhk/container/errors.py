"""One error class for each rule of the format. Its docstring is the rule's text in `format_spec/README.md`."""

from __future__ import annotations

from typing import ClassVar

from bhk.base.errors import BhkError


class FormatError(BhkError):
    """A file breaks a rule of the format.

    Attributes:
        rule: ID of the rule.
        where: the layer, codebook or stream at fault, or the name of the file.
        found, expected: what the file holds and what the rule requires, in words.
    """

    rule: ClassVar[str] = ""

    def __init__(self, found: object, expected: object, where: str = "") -> None:
        self.found, self.expected, self.where = str(found), str(expected), where
        super().__init__(f"{self._fault()} [rule {self.rule} of the format]")

    def _fault(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}found {self.found}, expected {self.expected}"


class FileTooShortError(FormatError):
    """The file has at least 64 bytes."""

    rule = "P1"


class BadMagicError(FormatError):
    """Bytes 0–7 are `89 42 48 4B 0D 0A 1A 0A`."""

    rule = "P2"

    def _fault(self) -> str:
        return f"{self.where or 'this'} is not a .bhk file (it starts with {self.found}); make one with `bhk convert`"


class UnsupportedVersionError(FormatError):
    """The major version is 1. Any minor version is read; what a reader must know is in `required_features`."""

    rule = "P3"


class CompressedLengthError(FormatError):
    """Bytes 12–15 are zero, or hold a length Z such that 64 + H is the first multiple of 64 at or after 64 + Z."""

    rule = "P4"


class HeaderLengthError(FormatError):
    """The header length H is at least 2 and at most 2^26; 64 + H is a multiple of 64 and not beyond the end of the file."""

    rule = "P5"


class FileLengthError(FormatError):
    """Bytes 24–31 hold the length of the file."""

    rule = "P6"


class HeaderHashError(FormatError):
    """Bytes 32–63 hold the SHA-256 of the H header bytes."""

    rule = "P7"


class HeaderFrameError(FormatError):
    """If Z is not 0, the header is one zstd frame of Z bytes that declares a content size of 2 to 2^26, then zeros."""

    rule = "P8"


class HeaderSyntaxError(FormatError):
    """The text of the header is one JSON object (RFC 8259) in UTF-8 without byte order mark, then spaces only.

    No number is beyond the range of a double (no NaN, no Infinity), no `\\u` escape is a lone surrogate, and objects and arrays
    are nested at most 64 deep, the header itself counted.
    """

    rule = "H1"


class DuplicateKeyError(FormatError):
    """No JSON object has the same key twice."""

    rule = "H2"


class UnknownKeyError(FormatError):
    """Objects have the keys listed in this text and no others, except keys that start with `x-`, which are ignored."""

    rule = "H3"


class FieldTypeError(FormatError):
    """Every required key is present, and every value has the JSON type listed in this text."""

    rule = "H4"


class UnknownFeatureError(FormatError):
    """The reader knows every feature in `required_features`. Version 1.2 defines `scalar-bytes` and `grid-lattice`."""

    rule = "H5"


class LimitError(FormatError):
    """There are at most 2^20 layers, 2^20 codebooks, 2^20 aliases a layer and 4,096 metadata entries."""

    rule = "H6"


class BadNameError(FormatError):
    """Layer names, aliases and metadata keys have at most 1,024 bytes in UTF-8 and no control character.

    Control characters are U+0000–U+001F and U+007F–U+009F.
    """

    rule = "N1"


class DuplicateNameError(FormatError):
    """A name stands for one layer: names and aliases are all different."""

    rule = "N2"


class UnknownDtypeError(FormatError):
    """`dtype` is one of the names in the table of data types."""

    rule = "L1"


class UnknownRoleError(FormatError):
    """`role` is one of `linear`, `conv`, `embedding`, `norm`, `bias`, `buffer`, `other`."""

    rule = "L2"


class UnknownEncodingError(FormatError):
    """`encoding` is `trajectory` or `exact`."""

    rule = "L3"


class ShapeError(FormatError):
    """A shape has at most 32 dimensions, none negative; their product, each 0 counted as 1, is below 2^48."""

    rule = "L4"


class PairingError(FormatError):
    """A trajectory layer has `pairing` `flat`, or `rows` with two or more dimensions; an exact layer has none."""

    rule = "L5"


class CodebookReferenceError(FormatError):
    """`codebook` of a trajectory layer is the index of a codebook; an exact layer has none."""

    rule = "L6"


class TrajectoryTensorError(FormatError):
    """A trajectory layer has dtype F64, F32, F16 or BF16 and at least one element."""

    rule = "L7"


class MeasuredErrorError(FormatError):
    """A trajectory layer has `error`, whose `mean_abs` and `max_abs` are not negative; an exact layer has none."""

    rule = "L8"


class CodebookNumberError(FormatError):
    """`centre`, `side` and `spacing` are finite float32 values."""

    rule = "C1"


class WindingsError(FormatError):
    """`windings` is 1 to 256."""

    rule = "C2"


class ShellsError(FormatError):
    """`shells` is 0 to 255; `spacing` is positive with shells and 0 without."""

    rule = "C3"


class CodebookRangeError(FormatError):
    """2^-100 <= `side` <= 2^100; the absolute values of the centre and of `shells` * `spacing` are at most 2^120.

    The scale of the last shell, as section 7.1 computes it in float32, is finite.
    """

    rule = "C4"


class UnknownLatticeError(FormatError):
    """`lattice` is `centred` or `corner`, or, in a file that requires the feature `grid-lattice`, `grid`."""

    rule = "C5"


class UnknownStreamKindError(FormatError):
    """`kind` is one of `winding`, `phase`, `shell`, `codes`, `values`."""

    rule = "S1"


class UnknownCodecError(FormatError):
    """`codec` is `packed` for `codes`; `none`, `zstd` or `shuffle+zstd` for `values`; `zstd` for the other kinds.

    It may also be `zstd` for `codes` in a file that requires the feature `scalar-bytes`.
    """

    rule = "S2"


class StreamSetError(FormatError):
    """A layer has the streams of one line of the table of stream sets, in that order."""

    rule = "S3"


class StreamOffsetError(FormatError):
    """Streams are in the order of the layer map, each at the place that section 2 gives it.

    `offset` is that place in a header that is stored as text, and absent or 0 in a compressed one.
    """

    rule = "S4"


class DecodedLengthError(FormatError):
    """`decoded` is the length that shape, dtype and pairing (and `bits`) give."""

    rule = "S5"


class ChunkError(FormatError):
    """`chunk` is 1 to 2^20 and cuts the stream into at most 2^20 chunks.

    For codecs with zstd, `chunks` lists a positive length for each chunk; for a single chunk it may be absent or empty, and
    `stored` is that length. For the other codecs it is absent or empty.
    """

    rule = "S6"


class StoredLengthError(FormatError):
    """`stored` equals `decoded` for codecs `none` and `packed`, the sum of `chunks` for the others."""

    rule = "S7"


class BitsError(FormatError):
    """`bits` of a packed stream is 1 to the bit length of the largest code, (`shells` + 1) * `windings`^2 - 1 (at least 1).

    It is absent or 0 in other streams.
    """

    rule = "S8"


class HashSyntaxError(FormatError):
    """`sha256` is 64 lower-case hexadecimal digits."""

    rule = "S9"


class FileEndError(FormatError):
    """The file ends with the last stream, or with the header when there is no stream."""

    rule = "S10"


class WindowError(FormatError):
    """`window` is present exactly in a `codes` stream of codec `zstd`; then 0 <= q0 < n, 0 <= r0, 1 <= R and r0 + R <= n.

    [q0, r0, R] is the `window`, and n is `windings`.
    """

    rule = "S11"


class PaddingError(FormatError):
    """The bytes between streams are zero."""

    rule = "D1"


class StreamHashError(FormatError):
    """`sha256` is the SHA-256 of the stored bytes of the stream."""

    rule = "D2"


class ChunkDataError(FormatError):
    """A zstd chunk is one whole frame that declares its content size, equal to the decoded length of the chunk.

    A packed chunk has no bit set after its last code.
    """

    rule = "D3"


class CodeRangeError(FormatError):
    """Windings and phases are below `windings`, shells at most `shells`, packed codes below (`shells` + 1) * `windings`^2.

    Scalar bytes stand for such windings: they are below (`windings` - q0) * R.
    """

    rule = "D4"


def rules() -> dict[str, type[FormatError]]:
    """Return the error class of every rule by rule ID, in the order of the text."""
    return {cls.rule: cls for cls in FormatError.__subclasses__()}
