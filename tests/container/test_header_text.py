from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhk.container.errors import DuplicateKeyError, HeaderSyntaxError
from bhk.container.header_text import MAX_DEPTH, load_object

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=5), st.booleans(), st.integers(0, 3))
def test_parses_like_json(value: dict[str, object], escape: bool, spaces: int) -> None:
    text = json.dumps(value, ensure_ascii=escape) + " " * spaces
    assert load_object(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'\r\n\t {"a" : 1}  ', {"a": 1}),
        (b'{"a":-0}', {"a": 0}),
        (b'{"a":1e-999}', {"a": 0.0}),
        (b'{"a":"\\ud834\\udd1e"}', {"a": "\U0001d11e"}),
        (b'{"a":"\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a":"\\\\\\ud834\\udd1e"}', {"a": "\\\U0001d11e"}),
        (b'{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (b'{"a":1' + b"0" * 308 + b"}", {"a": 10**308}),
    ],
)
def test_accepts(text: bytes, expected: object) -> None:
    assert load_object(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"   ",
        b"null",
        b'"{}"',
        b"[{}]",
        b"{}{}",
        b"{}\n",
        b"{}\0",
        b"{",
        b"}",
        b"{} x }",
        b"\xef\xbb\xbf{}",
        b"\x0b{}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":0x1}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":2' + b"0" * 308 + b"}",
        b'{"a":1' + b"0" * 100_000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\t"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDC00"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"a":"\\ud800\\ud834\\udd1e"}',
        b'{"a":"\\\\\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":[["\\ud800"]]}',
    ],
)
def test_refuses_anything_but_a_single_object(text: bytes) -> None:
    with pytest.raises(HeaderSyntaxError) as caught:
        load_object(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"b":', b"}")])
def test_depth_counts_objects_and_arrays(open_: bytes, close: bytes) -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' + open_ * (depth - 1) + (b"1" if open_ != b"[" else b"") + close * (depth - 1) + b"}"

    assert load_object(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 900, 100_000):
        with pytest.raises(HeaderSyntaxError):
            load_object(nested(depth))


def test_width_is_not_depth() -> None:
    assert len(load_object(b'{"a":[' + b",".join([b"[[]]"] * 5000) + b"]}")["a"]) == 5000


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"b":2,"\\u0061":3}',
        b'{"x":[{"y":{"b":1,"b":1}}]}',
        b'{"":0,"":0}',
    ],
)
def test_refuses_the_same_key_twice(text: bytes) -> None:
    with pytest.raises(DuplicateKeyError):
        load_object(text)


def test_look_alikes_are_different_keys() -> None:
    assert len(load_object('{"é":1,"e\u0301":2,"E":3,"e":4}'.encode())) == 4


@pytest.mark.parametrize(
    "fault",
    [b'"x":NaN', b'"x":1e999', b'"x":"\\ud800"', b'"x":' + b"[" * 64 + b"]" * 64, b'"x"'],
)
@pytest.mark.parametrize("fault_first", [False, True])
def test_syntax_is_checked_before_duplicates(fault: bytes, fault_first: bool) -> None:
    twice = b'"a":[],"a":{}'
    parts = (fault, twice) if fault_first else (twice, fault)
    with pytest.raises(HeaderSyntaxError):
        load_object(b"{" + b",".join(parts) + b"}")


def test_faults_below_a_repeated_key_count() -> None:
    with pytest.raises(HeaderSyntaxError):
        load_object(b'{"a":' + b"[" * 64 + b"]" * 64 + b',"a":1}')


def test_finds_one_repeated_key_among_very_many() -> None:
    keys = ",".join(f'"{index}":0' for index in range(300_000))
    with pytest.raises(DuplicateKeyError, match="'299999'"):
        load_object(f'{{{keys},"299999":0}}'.encode())
