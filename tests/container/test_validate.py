from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from bhk.container import errors as e
from bhk.container.header import GRID_LATTICE, SCALAR_BYTES, CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry
from bhk.container.places import PREAMBLE_BYTES, align, placed
from bhk.container.validate import MAX_ENTRIES, MAX_METADATA, validate
from container.memory import validate_all
from tools.format_spec.builder import Draft, codebook, coded_layer, draft, exact_layer, packed, plain, planes
from tools.format_spec.zstd_frames import frame

_HEADER_LENGTH = 64
_START = PREAMBLE_BYTES + _HEADER_LENGTH
_VALUES = StreamEntry("values", 12, 12, "0" * 64, "none", offset=_START)
_EXACT = LayerEntry("exact", (3,), "F32", "other", "exact", streams=(_VALUES,))
_CODES = StreamEntry("codes", 3, 3, "0" * 64, "packed", bits=6, offset=_START)
_CODED = LayerEntry("coded", (2, 3), "F32", "linear", "trajectory", "rows", 0, (_CODES,), ErrorEntry(0.1, 0.2))
_CODEBOOK = CodebookEntry((0.0, 0.0), 0.5, 4, "centred", 3, 0.25)
_EMPTY = LayerEntry("empty", (0,), "F32", "other", "exact")


def _change(struct: Any, **fields: object) -> Any:
    return msgspec.structs.replace(struct, **fields)


def _check(*layers: LayerEntry, codebooks: tuple[CodebookEntry, ...] = (_CODEBOOK,), length: int | None = None) -> None:
    ends = [stream.offset + stream.stored for layer in layers for stream in layer.streams]
    end = max([_START, *ends]) if length is None else length
    validate(Header("test", layers, codebooks), _HEADER_LENGTH, end, compressed=False)


def _stream(layer: LayerEntry, **fields: object) -> LayerEntry:
    return _change(layer, streams=(_change(layer.streams[0], **fields),))


@pytest.mark.parametrize("layers", [(), (_EXACT,), (_CODED,), (_EMPTY,)])
def test_accepts(layers: tuple[LayerEntry, ...]) -> None:
    _check(*layers)


def test_counts_are_limited() -> None:
    layer = _EMPTY
    for header in (
        Header("g", (layer,) * (MAX_ENTRIES + 1)),
        Header("g", (), (_CODEBOOK,) * (MAX_ENTRIES + 1)),
        Header("g", (), metadata=dict.fromkeys(map(str, range(MAX_METADATA + 1)), "")),
        Header("g", (_change(layer, aliases=("a",) * (MAX_ENTRIES + 1)),)),
    ):
        with pytest.raises(e.LimitError):
            validate(header, _HEADER_LENGTH, _START, compressed=True)
    most = Header("g", (), metadata=dict.fromkeys(map(str, range(MAX_METADATA)), ""))
    validate(most, _HEADER_LENGTH, _START, compressed=True)


@pytest.mark.parametrize("name", ["", "a.b", "n" * 1024, "ä" * 512, "重み", "\u202e", "\u2028", "../x", " "])
def test_accepts_names(name: str) -> None:
    _check(_change(_EMPTY, name=name))


@pytest.mark.parametrize(
    "name", ["n" * 1025, "ä" * 512 + "n", *(f"a{chr(c)}" for c in (0, 9, 10, 27, 31, 127, 128, 155, 159))]
)
def test_refuses_names_in_one_printable_line(name: str) -> None:
    for layer in (_change(_EMPTY, name=name), _change(_EMPTY, aliases=("x", name))):
        with pytest.raises(e.BadNameError) as caught:
            _check(layer)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "shape",
    [(1 << 47,), (0, (1 << 48) - 1), (1,) * 32, (), (1 << 16, 1 << 16, (1 << 16) - 1)],
)
def test_accepts_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises((e.StreamSetError, e.ChunkError)):  # the shape is fine, the missing data are not
        _check(_change(_EMPTY, shape=shape), length=_START) if 0 not in shape else _check(_change(_EXACT, shape=shape))


@pytest.mark.parametrize(
    "shape",
    [
        (-1,),
        (-1, -1),
        (0, -1),
        (1 << 48,),
        (1 << 24, 1 << 24),
        (0, 1 << 48),
        (1 << 24, 0, 1 << 24),
        (1 << 53,) * 32,
        (1,) * 33,
        (0,) * 33,
    ],
)
def test_refuses_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(e.ShapeError):
        _check(_change(_EMPTY, shape=shape))


@pytest.mark.parametrize(
    ("largest", "bits"),
    [((0, 1), 1), ((0, 2), 2), ((0, 3), 4), ((3, 4), 6), ((255, 256), 24), ((255, 1), 8)],
)
def test_bits_go_up_to_the_length_of_the_largest_code(largest: tuple[int, int], bits: int) -> None:
    shells, windings = largest
    book = CodebookEntry((0.0, 0.0), 0.5, windings, "centred", shells, 0.25 if shells else 0.0)
    size = (4 * bits + 7) // 8
    _check(_stream(_CODED, bits=bits, stored=size, decoded=size), codebooks=(book,))
    for wrong in (0, -1, bits + 1):
        with pytest.raises(e.BitsError):
            _check(_stream(_CODED, bits=wrong), codebooks=(book,))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"side": 2.0**-100}, None),
        ({"side": 2.0**100}, None),
        ({"side": 2.0**-101}, e.CodebookRangeError),
        ({"side": 2.0**100 * (1 + 2.0**-23)}, e.CodebookRangeError),
        ({"side": float("nan")}, e.CodebookNumberError),
        ({"side": float("inf")}, e.CodebookNumberError),
        ({"side": 0.1}, e.CodebookNumberError),
        ({"centre": (0.0, float("nan"))}, e.CodebookNumberError),
        ({"centre": (1e39, 0.0)}, e.CodebookNumberError),
        ({"centre": (-(2.0**120), 2.0**120)}, None),
        ({"centre": (0.0, -(2.0**121))}, e.CodebookRangeError),
        ({"spacing": 2.0**118}, None),
        ({"spacing": 2.0**119}, e.CodebookRangeError),
        ({"side": 2.0**-100, "spacing": 2.0**24}, None),
        ({"side": 2.0**-100, "spacing": 2.0**27}, e.CodebookRangeError),
        ({"spacing": -0.25}, e.ShellsError),
        ({"shells": 0}, e.ShellsError),
        ({"shells": 0, "spacing": -0.0}, None),
        ({"windings": 256}, None),
        ({"lattice": "Corner"}, e.UnknownLatticeError),
    ],
)
def test_codebooks(fields: dict[str, Any], expected: type[e.FormatError] | None) -> None:
    book = _change(_CODEBOOK, **fields)
    if expected is None:
        _check(codebooks=(book,))
        return
    with pytest.raises(expected) as caught:
        _check(codebooks=(_CODEBOOK, book))
    assert caught.value.where == "codebook 1"


_BYTES = _change(_CODES, codec="zstd", decoded=4, bits=0, window=(1, 2, 2))
_SHELLS = _change(_BYTES, kind="shell", offset=_START + 64, window=None)


def _check_bytes(stream: StreamEntry, *, features: tuple[str, ...] = (SCALAR_BYTES,)) -> None:
    layer = _change(_CODED, streams=(stream, _SHELLS))
    validate(Header("test", (layer,), (_CODEBOOK,), features), _HEADER_LENGTH, _SHELLS.offset + 3, compressed=False)


@pytest.mark.parametrize("window", [(0, 0, 4), (3, 0, 4), (0, 3, 1), (3, 3, 1), (1, 2, 2)])
def test_accepts_windows_within_the_square(window: tuple[int, int, int]) -> None:
    _check_bytes(_change(_BYTES, window=window))


@pytest.mark.parametrize(
    "window", [None, (-1, 0, 4), (4, 0, 4), (0, -1, 4), (0, 0, 0), (0, 0, -4), (0, 0, 5), (0, 4, 1), (0, 1, 1 << 53)]
)
def test_refuses_windows_beyond_the_square(window: tuple[int, int, int] | None) -> None:
    with pytest.raises(e.WindowError):
        _check_bytes(_change(_BYTES, window=window))


def test_scalar_bytes_need_their_feature_and_the_shells_of_the_codebook() -> None:
    with pytest.raises(e.UnknownCodecError, match="packed, or the required feature scalar-bytes"):
        _check_bytes(_BYTES, features=())
    needless = Header("test", (_CODED,), (_CODEBOOK,), (SCALAR_BYTES,))
    validate(needless, _HEADER_LENGTH, _START + 3, compressed=False)
    for codec, bits in (("packed", 6), ("none", 0)):
        with pytest.raises(e.StreamSetError):
            _check_bytes(_change(_BYTES, codec=codec, bits=bits, window=None))
    with pytest.raises(e.StreamSetError):
        _check(_change(_CODED, streams=(_BYTES,)))
    with pytest.raises(e.BitsError):
        _check_bytes(_change(_BYTES, bits=6))


def test_a_grid_needs_its_feature() -> None:
    book = _change(_CODEBOOK, lattice="grid")
    with pytest.raises(e.UnknownLatticeError, match="the required feature grid-lattice"):
        _check(codebooks=(book,))
    validate(Header("test", (), (book,), (GRID_LATTICE,)), _HEADER_LENGTH, _START, compressed=False)


# Changes of the coded layer and of its stream, in the order of section 9 of the text, each with the rule that it breaks.
_FAULTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("H6", {"aliases": ("a",) * (MAX_ENTRIES + 1)}, {}),
    ("N1", {"name": "\n"}, {}),
    ("N2", {"aliases": ("coded",)}, {}),
    ("L1", {"dtype": "F12"}, {}),
    ("L2", {"role": "?"}, {}),
    ("L3", {"encoding": "?"}, {}),
    ("L4", {"shape": (1 << 48,)}, {}),
    ("L7", {"shape": (0, 3)}, {}),
    ("L5", {"pairing": None}, {}),
    ("L6", {"codebook": 1}, {}),
    ("L8", {"error": None}, {}),
    ("S1", {}, {"kind": "?"}),
    ("S3", {}, {"kind": "winding"}),
    ("S2", {}, {"codec": "none"}),
    ("S8", {}, {"bits": 7}),
    ("S11", {}, {"window": (0, 0, 4)}),
    ("S6", {}, {"chunk": 0}),
    ("S5", {}, {"decoded": 4}),
    ("S6", {}, {"chunks": (3,)}),
    ("S7", {}, {"stored": 4}),
    ("S9", {}, {"sha256": "?"}),
    ("S4", {}, {"offset": 0}),
]


def _faulty(*indices: int) -> LayerEntry:
    layer, stream = _CODED, _CODES
    for index in indices:
        _, fields, stream_fields = _FAULTS[index]
        layer, stream = _change(layer, **fields), _change(stream, **stream_fields)
    return _change(layer, streams=(stream,))


def _independent(first: int, second: int) -> bool:
    (_, one, one_stream), (_, two, two_stream) = _FAULTS[first], _FAULTS[second]
    if "name" in one and two.get("aliases") == ("coded",):
        return False  # then the alias is no other name
    return not (one.keys() & two.keys() or one_stream.keys() & two_stream.keys())


@pytest.mark.parametrize("first", range(len(_FAULTS)), ids=[rule for rule, *_ in _FAULTS])
def test_of_two_faults_of_a_layer_the_first_in_order_is_reported(first: int) -> None:
    later = (second for second in range(first + 1, len(_FAULTS)) if _independent(first, second))
    for layer in (_faulty(first), *(_faulty(first, second) for second in later)):
        with pytest.raises(e.FormatError) as caught:
            _check(layer, length=_START + 3)
        assert caught.value.rule == _FAULTS[first][0], layer


def test_values_are_checked_in_the_order_of_the_text() -> None:
    bad_name, bad_book, bad_layer = {"\n": ""}, (_change(_CODEBOOK, windings=0),), (_change(_EXACT, dtype="?"),)
    for header, expected in (
        (Header("g", bad_layer, bad_book, metadata=bad_name), e.BadNameError),
        (Header("g", bad_layer, bad_book), e.WindingsError),
        (Header("g", bad_layer), e.UnknownDtypeError),
        (Header("g", (_EXACT, *bad_layer)), e.DuplicateNameError),
    ):
        with pytest.raises(expected):
            validate(header, _HEADER_LENGTH, _START + 12, compressed=False)


def test_codebook_faults_in_order() -> None:
    faults = [
        (e.UnknownLatticeError, {"lattice": "?"}),
        (e.CodebookNumberError, {"centre": (0.1, 0.0)}),
        (e.WindingsError, {"windings": 0}),
        (e.ShellsError, {"shells": 256}),
        (e.CodebookRangeError, {"side": 0.0}),
    ]
    for index, (expected, _) in enumerate(faults):
        fields: dict[str, Any] = {}
        for _, change in faults[index:]:
            fields.update(change)
        with pytest.raises(expected):
            _check(codebooks=(_change(_CODEBOOK, **fields),))


def test_streams_follow_each_other() -> None:
    second = _change(_EXACT, name="second", streams=(_change(_VALUES, offset=align(_START + 12)),))
    _check(_EXACT, second)
    for offset in (_START, _START + 12, align(_START + 12) + 64, 0, -64, 1 << 52):
        with pytest.raises(e.StreamOffsetError):
            _check(_EXACT, _stream(second, offset=offset), length=1 << 53)


def test_behind_a_compressed_header_only_streams_that_are_used_in_place_are_aligned() -> None:
    ends = [_START + 3, _START + 64 + 12, _START + 128 + 3, _START + 128 + 7]
    packed, bytes_, values = (_change(stream, offset=0) for stream in (_CODES, _BYTES, _VALUES))
    layers = (
        _change(_CODED, streams=(packed,)),
        _change(_EXACT, streams=(values,)),
        _change(_CODED, name="more", streams=(packed,)),
        _change(_CODED, name="bytes", streams=(_change(bytes_, stored=4), _change(_SHELLS, offset=0))),
    )
    header = Header("test", layers, (_CODEBOOK,), (SCALAR_BYTES,))
    validate(header, _HEADER_LENGTH, ends[-1] + 3, compressed=True)
    found = [stream for layer in placed(header, _HEADER_LENGTH).layers for stream in layer.streams]
    assert [stream.offset for stream in found] == [_START, _START + 64, _START + 128, *ends[-2:]]
    with pytest.raises(e.FileEndError):
        validate(header, _HEADER_LENGTH, ends[-1] + 64, compressed=True)


def test_a_compressed_header_has_no_offsets() -> None:
    for offset in (_START, -1):
        header = Header("test", (_stream(_EXACT, offset=offset),))
        with pytest.raises(e.StreamOffsetError, match="none in a compressed header"):
            validate(header, _HEADER_LENGTH, _START + 12, compressed=True)


@pytest.mark.parametrize("length", [_START, _START + 11, _START + 13, _START + 64, 1 << 60])
def test_the_file_ends_with_the_last_stream(length: int) -> None:
    with pytest.raises(e.FileEndError):
        _check(_EXACT, length=length)


def _huge(file: Draft, shape: list[int], **stream: object) -> bytes:
    file.layers[0]["shape"] = shape
    file.stream().update(stream)
    return file.encode()


def _with_values() -> Draft:
    return exact_layer(draft(), "values", [4], "U8", b"abcd", plain(b"abcd"))


def _with_codes() -> Draft:
    return coded_layer(draft(codebook(4, 0.5)), "codes", [4], [1, 2], [packed([1, 2], 4)])


def _with_planes() -> Draft:
    file = draft(codebook(4, 0.5))
    return coded_layer(file, "planes", [4], [1, 2], planes(file, [1, 2], frame))


@pytest.mark.parametrize(
    "data",
    [
        _huge(_with_values(), [1 << 40], decoded=1 << 40, stored=1 << 40),
        _huge(_with_values(), [1 << 20], decoded=1 << 20, stored=1 << 20, chunk=1),
        _huge(_with_values(), [1 << 40], decoded=1 << 40, chunk=1),
        _huge(_with_codes(), [1 << 40], decoded=1 << 38, stored=1 << 38),
        _huge(_with_codes(), [1 << 47], chunk=1),
        _huge(_with_planes(), [1 << 40], decoded=1 << 39),
        _huge(_with_planes(), [1 << 40], decoded=1 << 39, chunks=[1]),
        _huge(_with_planes(), [1 << 41], decoded=1 << 40, stored=(1 << 53) - 1, chunks=[]),
    ],
)
def test_huge_sizes_are_refused_before_anything_is_allocated(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(e.FormatError):
            validate_all(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
