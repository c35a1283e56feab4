"""Damage is noticed (promise 6 of SECURITY.md)."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.base.errors import BhkError
from bhk.base.files import ReadError
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.tensor import tensor_bytes
from bhk.container import reader
from bhk.container.errors import FormatError, HeaderHashError, PaddingError, StreamHashError, rules
from bhk.container.reader import MAGIC, Container, FileSource, is_bhk
from bhk.file.bhkfile import load_state_dict, open_file
from container.memory import MemorySource, header_text, validate_all, with_text
from tools.format_spec.builder import seal

VECTORS = Path(__file__).parents[2] / "format_spec" / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))
GOOD = [path for path, entry in MANIFEST.items() if entry["verdict"] == "good"]
BAD = [path for path, entry in MANIFEST.items() if entry["verdict"] != "good"]


def test_vectors_cover_every_rule() -> None:
    assert {MANIFEST[path]["verdict"] for path in BAD} == rules().keys()


@pytest.mark.parametrize("path", GOOD)
def test_good_vectors_decode_to_the_expected_bits(path: str) -> None:
    expected = json.loads((VECTORS / path).with_suffix(".json").read_text(encoding="utf-8"))
    with open_file(VECTORS / path) as file:
        file.container.check_padding()
        tensors = file.state_dict(threads=2)
    assert list(tensors) == list(expected)
    for name, tensor in tensors.items():
        found = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data": tensor_bytes(tensor).tobytes().hex(),
        }
        assert found == expected[name], name


@pytest.mark.parametrize("path", BAD)
def test_bad_vectors_break_their_rule_and_no_other(path: str) -> None:
    rule = MANIFEST[path]["verdict"]
    with pytest.raises(FormatError) as caught:
        validate_all(VECTORS / path)
    assert type(caught.value) is rules()[rule]
    message = str(caught.value)
    assert message.isprintable()
    assert message.endswith(f"[rule {rule} of the format]")
    if rule[0] in "LSD" and rule != "S10":
        assert caught.value.where.startswith("layer ")
    if rule[0] == "P":
        assert Path(caught.value.where) == VECTORS / path


def test_tensors_read_one_by_one_equal_those_read_together() -> None:
    for path in GOOD:
        file = validate_all((VECTORS / path).read_bytes())
        for name, tensor in file.state_dict(threads=1).items():
            assert tensor_bytes(file.tensor(name)).tobytes() == tensor_bytes(tensor).tobytes()


def test_only_the_header_is_read_to_open() -> None:
    data = (VECTORS / "good" / "trajectory_rows.bhk").read_bytes()
    length = int.from_bytes(data[16:24], "little")

    class HeaderOnly(MemorySource):
        def read(self, offset: int, length_: int) -> bytes:
            assert offset + length_ <= 64 + length
            return super().read(offset, length_)

    assert Container(HeaderOnly(data)).layers


def test_a_source_is_closed_when_the_file_is_refused() -> None:
    source = MemorySource((VECTORS / "bad" / "H5_feature.bhk").read_bytes())
    with pytest.raises(FormatError):
        Container(source)
    assert source.closed


def test_hashes_are_checked_unless_switched_off() -> None:
    data = (VECTORS / "bad" / "D2_hash_changed.bhk").read_bytes()
    with pytest.raises(StreamHashError):
        validate_all(data)
    assert validate_all(data, verify=False).tensor("values").tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("path", [path for path in BAD if MANIFEST[path]["verdict"] == "D1"])
def test_padding_is_checked_with_the_stream_behind_it(path: str) -> None:
    with pytest.raises(PaddingError):
        load_state_dict(VECTORS / path)
    assert load_state_dict(VECTORS / path, verify=False)


def test_padding_of_a_long_stream_that_is_read_in_parts_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BLOCK", 4)
    data = bytearray((VECTORS / "good" / "exact_chunks.bhk").read_bytes())
    container = Container(MemorySource(bytes(data)))
    layer = container.layers[1]
    (stream,) = layer.streams
    data[stream.offset - 1] = 1
    damaged = Container(MemorySource(bytes(data)))
    assert container.read_chunks(layer, stream, 0, 0)
    with pytest.raises(PaddingError):
        damaged.read_chunks(layer, stream, 0, 0)


def test_chunks_read_alone_are_those_of_the_stream() -> None:
    container = Container(MemorySource((VECTORS / "good" / "exact_chunks.bhk").read_bytes()))
    for layer in container.layers:
        (stream,) = layer.streams
        whole = [bytes(chunk) for chunk in container.read_stream(layer, stream)]
        for first in range(len(whole)):
            for last in range(first, len(whole)):
                assert container.read_chunks(layer, stream, first, last) == whole[first : last + 1]


def test_local_files_are_read_from_many_threads(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    (tmp_path / "data").write_bytes(data)
    source = FileSource(tmp_path / "data")
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: source.read(start, 777), range(0, 99_000, 100)))
    source.close()
    assert parts == [data[start : start + 777] for start in range(0, 99_000, 100)]


def test_errors_of_the_system_are_read_errors(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="folder"):
        Container.open(tmp_path)
    with pytest.raises(ReadError, match="No such file"):
        Container.open(tmp_path / "none.bhk")


def test_a_file_that_shrinks_while_it_is_read_is_a_read_error(tmp_path: Path) -> None:
    path = tmp_path / "file.bhk"
    path.write_bytes((VECTORS / "good" / "example.bhk").read_bytes())
    with Container.open(path) as container:
        os.truncate(path, 64)
        layer = container.layers[0]
        with pytest.raises(ReadError, match="changed in the meantime"):
            container.read_stream(layer, layer.streams[0])


_files = st.sampled_from([(VECTORS / path).read_bytes() for path in GOOD if os.path.getsize(VECTORS / path) < 4000])
_noise = st.binary(max_size=9) | st.sampled_from(
    [b"\0" * 64, b"9" * 20, b"[" * 99, b'"', b"{}", b"-1", b"null", b"1e999"]
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Return a good file with some bytes changed, removed or added."""
    data = draw(_files)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(_noise) + data[at + draw(st.sampled_from([0, 1, 1, 2, 8, 64, 1 << 20])) :]
    return data


def _message(data: bytes, *, verify: bool) -> str:
    """Return the error of a validator, or None; errors other than bhk's pass through."""
    try:
        validate_all(data, verify=verify)
    except BhkError as error:
        return str(error)
    return ""


def _resealed(data: bytes) -> bytes:
    """Return `data` with its length and the hash of its header corrected, as an attacker would."""
    return seal(data) if len(data) >= 64 else data


@settings(max_examples=400, deadline=None)
@given(_damaged(), st.booleans())
def test_damaged_files_raise_only_bhk_errors(data: bytes, hostile: bool) -> None:
    assert _message(_resealed(data) if hostile else data, verify=not hostile).count("\n") == 0


@settings(max_examples=400, deadline=None)
@given(_files, st.data())
def test_damaged_headers_raise_only_bhk_errors(data: bytes, draw: st.DataObject) -> None:
    length = int.from_bytes(data[16:24], "little")
    text = header_text(data).rstrip(b" ")
    numbers = [index for index, byte in enumerate(text) if chr(byte).isdigit()]
    at = draw.draw(st.sampled_from(numbers) | st.integers(0, len(text)) if numbers else st.integers(0, len(text)))
    text = text[:at] + draw.draw(_noise) + text[at + draw.draw(st.integers(0, 2)) :]
    assert _message(with_text(data, text, data[64 + length :]), verify=False).count("\n") == 0


@settings(max_examples=200, deadline=None)
@given(_files, st.data())
def test_every_flipped_bit_is_noticed(data: bytes, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(data) * 8 - 1))
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    if position // 8 in (10, 11):  # readers ignore the minor version
        validate_all(bytes(changed))
        return
    with pytest.raises(FormatError):
        validate_all(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(_files, st.data())
def test_every_cut_is_noticed(data: bytes, draw: st.DataObject) -> None:
    with pytest.raises(FormatError):
        validate_all(data[: draw.draw(st.integers(0, len(data) - 1))])


def test_the_hash_of_the_header_is_checked_before_it_is_parsed() -> None:
    data = (VECTORS / "bad" / "H1_cut_off.bhk").read_bytes()
    with pytest.raises(HeaderHashError):
        validate_all(data[:63] + bytes([data[63] ^ 1]) + data[64:])


def test_a_bhk_file_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    contents = {"a.bin": MAGIC + b"...", "b.bin": MAGIC[:-1], "c.bin": b"", "d.bhk": b"text"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    names = [*contents, "pipe", "none.pth", "none.bhk", "."]
    assert [name for name in names if is_bhk(tmp_path / name)] == ["a.bin", "d.bhk", "none.bhk"]
