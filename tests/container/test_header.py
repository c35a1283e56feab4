from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.streams import CHUNK_ITEMS, packed_size
from bhk.container.errors import FieldTypeError, HeaderSyntaxError, UnknownFeatureError, UnknownKeyError
from bhk.container.header import (
    DTYPES,
    MAX_INTEGER,
    CodebookEntry,
    ErrorEntry,
    Header,
    LayerEntry,
    ModelEntry,
    StreamEntry,
    parse,
    to_json,
)

_texts = st.text(max_size=8)
_integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
_numbers = st.floats(allow_nan=False, allow_infinity=False)


def _tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


_streams = st.builds(
    StreamEntry,
    *(_texts, _integers, _integers, _texts, _texts, _integers, _tuples(_integers), _integers),
    *(st.none() | st.tuples(_integers, _integers, _integers), _integers),
)
_errors = st.builds(ErrorEntry, _numbers, _numbers, st.none() | _numbers)
_layers = st.builds(
    LayerEntry,
    *(_texts, _tuples(_integers), _texts, _texts, _texts, st.none() | _texts, st.none() | _integers),
    *(_tuples(_streams), st.none() | _errors, _tuples(_texts)),
)
_codebooks = st.builds(CodebookEntry, st.tuples(_numbers, _numbers), _numbers, _integers, _texts, _integers, _numbers)
_maps = st.dictionaries(_texts, st.none() | st.booleans() | _numbers | _texts | st.lists(_integers), max_size=3)
_headers = st.builds(
    Header,
    *(_texts, _tuples(_layers), _tuples(_codebooks), st.just(()), st.dictionaries(_texts, _texts, max_size=3)),
    st.none() | st.builds(ModelEntry, _texts, st.none() | _texts, _maps),
)


@given(_headers)
def test_text_and_structs_say_the_same(header: Header) -> None:
    assert parse(to_json(header)) == header


@given(_headers)
def test_text_is_plain_json_without_what_is_default(header: Header) -> None:
    value = json.loads(to_json(header))
    assert value["generator"] == header.generator
    assert ("model" in value) == (header.model is not None)
    assert ("codebooks" in value) == bool(header.codebooks)


def _json(**fields: object) -> bytes:
    return json.dumps({"generator": "g", "layers": [], **fields}).encode()


_LAYER = {"name": "a", "shape": [1], "dtype": "F32", "role": "other", "encoding": "exact"}
_STREAM = {"kind": "values", "offset": 0, "stored": 0, "decoded": 0, "sha256": ""}
_CODEBOOK = {"centre": [0, 0], "side": 1, "windings": 1, "lattice": "corner"}


def test_extension_keys_are_dropped_everywhere_but_from_free_maps() -> None:
    note = {"x-note": {"x-": [1, None]}}
    layer = {**_LAYER, "streams": [{**_STREAM, **note}], "error": {"mean_abs": 0, "max_abs": 0, **note}, **note}
    model = {"family": "f", "arguments": {"x-a": {"x-b": 1}, "metadata": {"x-c": 2}}, **note}
    header = parse(
        _json(layers=[layer], codebooks=[{**_CODEBOOK, **note}], metadata={"x-free": "1"}, model=model, **note)
    )
    assert header.metadata == {"x-free": "1"}
    assert header.model is not None
    assert header.model.arguments == {"x-a": {"x-b": 1}, "metadata": {"x-c": 2}}
    assert header.layers[0].streams[0] == msgspec.convert(_STREAM, StreamEntry)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"generator": None}, "$.generator"),
        ({"layers": {}}, "$.layers"),
        ({"layers": [[]]}, "$.layers[0]"),
        ({"metadata": {"a": 1}}, "$.metadata[...]"),
        ({"metadata": []}, "$.metadata"),
        ({"model": []}, "$.model"),
        ({"model": {}}, "$.model"),
        ({"model": {"family": "f", "arguments": []}}, "$.model.arguments"),
        ({"required_features": "zstd"}, "$.required_features"),
        ({"required_features": [7]}, "$.required_features[0]"),
        ({"layers": [{**_LAYER, "shape": [1.0]}]}, "$.layers[0].shape[0]"),
        ({"layers": [{**_LAYER, "shape": [1e3]}]}, "$.layers[0].shape[0]"),
        ({"layers": [{**_LAYER, "shape": [True]}]}, "$.layers[0].shape[0]"),
        ({"layers": [{**_LAYER, "shape": ["1"]}]}, "$.layers[0].shape[0]"),
        ({"layers": [{**_LAYER, "shape": [MAX_INTEGER + 1]}]}, "$.layers[0].shape[0]"),
        ({"layers": [{**_LAYER, "shape": [10**300]}]}, "$.layers[0].shape[0]"),
        (
            {"layers": [{**_LAYER, "streams": [{**_STREAM, "offset": -MAX_INTEGER - 1}]}]},
            "$.layers[0].streams[0].offset",
        ),
        ({"layers": [{**_LAYER, "aliases": None}]}, "$.layers[0].aliases"),
        ({"layers": [{**_LAYER, "codebook": False}]}, "$.layers[0].codebook"),
        ({"layers": [{"name": "a"}]}, "$.layers[0]"),
        ({"codebooks": [{**_CODEBOOK, "centre": [0]}]}, "$.codebooks[0].centre"),
        ({"codebooks": [{**_CODEBOOK, "centre": [0, 0, 0]}]}, "$.codebooks[0].centre"),
        ({"codebooks": [{**_CODEBOOK, "side": True}]}, "$.codebooks[0].side"),
        ({"codebooks": [{**_CODEBOOK, "side": "1"}]}, "$.codebooks[0].side"),
        ({"codebooks": [{**_CODEBOOK, "windings": 4.0}]}, "$.codebooks[0].windings"),
    ],
)
def test_refuses_other_types_and_names_the_place(fields: dict[str, object], place: str) -> None:
    with pytest.raises(FieldTypeError) as caught:
        parse(_json(**fields))
    assert caught.value.where == place
    assert str(caught.value).startswith(f"{place}: found ")


def test_numbers_may_be_written_as_integers() -> None:
    (codebook,) = parse(_json(codebooks=[{**_CODEBOOK, "side": 2**70}])).codebooks
    assert codebook.side == 2.0**70


@pytest.mark.parametrize("key", ["note", "X-note", "x_note", "x", "", "a` - at `$.evil\x1b[31m\n", "\u202e", "- at\n"])
def test_refuses_unknown_keys_in_one_printable_line(key: str) -> None:
    for fields in ({key: 1}, {"layers": [{**_LAYER, key: 1}]}):
        with pytest.raises(UnknownKeyError) as caught:
            parse(_json(**fields))
        assert str(caught.value).isprintable()


def test_faults_are_found_in_the_order_of_the_text() -> None:
    with pytest.raises(UnknownKeyError):
        parse(b'{"note":1,"generator":5,"layers":[]}')
    with pytest.raises(FieldTypeError):
        parse(b'{"generator":5,"note":1,"layers":[]}')
    with pytest.raises(UnknownKeyError):
        parse(b'{"note":1}')


def test_an_unknown_feature_is_named_before_the_keys_it_brings() -> None:
    for features in (["new"], [7, "new"]):
        with pytest.raises(UnknownFeatureError, match="'new'"):
            parse(_json(required_features=features, new_key=1, layers=7))


def test_invalid_unicode_is_not_written() -> None:
    for header in (Header("\ud800", ()), Header("g", (), metadata={"a": "\udcff"})):
        with pytest.raises(HeaderSyntaxError):
            to_json(header)


def test_nan_and_infinity_do_not_come_back() -> None:
    layer = LayerEntry("a", (1,), "F32", "other", "trajectory", error=ErrorEntry(float("nan"), float("inf")))
    with pytest.raises(FieldTypeError):
        parse(to_json(Header("g", (layer,))))


@pytest.mark.parametrize(
    ("stream", "width", "expected"),
    [
        (StreamEntry("values", 20, 20, "", "none"), 4, [(20, 20)]),
        (StreamEntry("values", 20, 20, "", "none", 2), 4, [(8, 8), (8, 8), (4, 4)]),
        (StreamEntry("values", 9, 20, ""), 4, [(9, 20)]),
        (StreamEntry("values", 30, 20, "", "zstd", 4, (14, 16)), 4, [(14, 16), (16, 4)]),
        (StreamEntry("codes", 5, 5, "", "packed", 3, (), 5), 1, [(2, 2), (2, 2), (1, 1)]),
    ],
)
def test_chunk_lengths(stream: StreamEntry, width: int, expected: list[tuple[int, int]]) -> None:
    assert stream.chunk_lengths(width) == expected


def test_largest_chunk_of_codes() -> None:
    size = packed_size(CHUNK_ITEMS, 24)
    assert StreamEntry("codes", size + 3, size + 3, "", "packed", bits=24).chunk_lengths(1) == [(size,) * 2, (3, 3)]


def test_sizes_of_dtypes_are_those_of_torch() -> None:
    assert {name: dtype.itemsize for name, dtype in TORCH_DTYPES.items()} == DTYPES
