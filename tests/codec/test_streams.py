from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bhk.codec import streams
from bhk.codec.streams import (
    CorruptStreamError,
    Window,
    byte_stream,
    compress,
    decompress,
    pack,
    packed_size,
    packed_stream,
    plane_stream,
    shuffle,
    unpack,
    unshuffle,
    value_stream,
)

_SETTINGS = settings(deadline=None, derandomize=True)


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


@_SETTINGS
@given(st.binary(min_size=1, max_size=2000), st.integers(1, 50))
def test_what_is_compressed_comes_back(data: bytes, times: int) -> None:
    frame = compress(_bytes(data * times))
    assert decompress(memoryview(frame), len(data) * times).tobytes() == data * times


_PLAIN = bytes(range(256)) * 5
_FRAME = compress(_bytes(_PLAIN))
_WITHOUT_SIZE = zstandard.ZstdCompressor(write_content_size=False).compress(_PLAIN)
_EMPTY = zstandard.ZstdCompressor().compress(b"")
# Its declared size is taken for a content size by zstd.
_SKIPPABLE = b"\x50\x2a\x4d\x18" + len(_PLAIN).to_bytes(4, "little") + _PLAIN


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (b"", "do not decode"),
        (b"no frame at all", "do not decode"),
        (_FRAME[:-1], "do not decode"),
        (_FRAME[:5], "do not decode"),
        (_FRAME[:-4] + b"\xff\xff\xff\xff", "do not decode"),
        (_FRAME + b"\0", "do not decode"),
        (_FRAME + _FRAME, "do not decode"),
        (_FRAME + _EMPTY, "do not decode"),
        (_FRAME + _SKIPPABLE, "do not decode"),
        (_SKIPPABLE + _FRAME, "(holds|a zstd frame of) 0 bytes|do not decode"),
        (_SKIPPABLE, "(holds|a zstd frame of) 0 bytes|do not decode"),
        (_WITHOUT_SIZE, "declares no content size, expected 1280 bytes"),
        (compress(_bytes(_PLAIN[:-1])), "declares 1279 bytes, expected 1280 bytes"),
        (compress(_bytes(_PLAIN + b"\0")), "declares 1281 bytes, expected 1280 bytes"),
        (_EMPTY, "declares 0 bytes, expected 1280 bytes"),
    ],
)
def test_a_frame_that_is_not_one_whole_frame_of_the_size_is_refused(frame: bytes, complaint: str) -> None:
    assert decompress(_FRAME, len(_PLAIN)).tobytes() == _PLAIN
    with pytest.raises(CorruptStreamError, match=complaint):
        decompress(frame, len(_PLAIN))


@_SETTINGS
@given(st.integers(0, len(_FRAME) - 1), st.binary(min_size=1, max_size=9))
def test_a_damaged_frame_is_refused_or_has_its_length(at: int, damage: bytes) -> None:
    frame = _FRAME[:at] + damage + _FRAME[at + len(damage) :]
    try:
        data = decompress(frame, len(_PLAIN))
    except CorruptStreamError:
        return
    assert len(data) == len(_PLAIN)


@_SETTINGS
@given(st.data(), st.integers(1, 24))
def test_packed_codes_come_back(data: st.DataObject, bits: int) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=100))
    run = pack(np.array(codes, dtype=np.int32), bits)
    assert len(run) == packed_size(len(codes), bits)
    # Code i stands in bits i*bits ... of the run read as one little-endian number.
    assert int.from_bytes(run, "little") == sum(code << (i * bits) for i, code in enumerate(codes))
    assert unpack(memoryview(run), len(codes), bits).tolist() == codes


def test_packed_bits_start_with_the_least_significant() -> None:
    # 0001, 0010, 1111 -> bytes 0010_0001 and, padded with zeros, 0000_1111
    assert pack(np.array([1, 2, 15]), 4) == b"\x21\x0f"
    # 10-bit codes 1, 1023, 512: bits 0, 10-19, 29
    assert pack(np.array([1, 1023, 512]), 10) == bytes([0x01, 0xFC, 0x0F, 0x20])


@pytest.mark.parametrize(("bits", "count"), [(3, 5), (10, 3), (13, 7), (1, 9)])
def test_bits_behind_the_last_code_must_be_zero(bits: int, count: int) -> None:
    run = bytearray(pack(np.zeros(count, dtype=np.int64), bits))
    for spare in range(count * bits, 8 * len(run)):
        run[spare // 8] = 1 << spare % 8
        with pytest.raises(CorruptStreamError, match="behind the last"):
            unpack(bytes(run), count, bits)
        run[spare // 8] = 0
    run[-1] = 1 << (count * bits - 1) % 8
    assert unpack(bytes(run), count, bits).tolist() == [0] * (count - 1) + [1 << (bits - 1)]


@pytest.mark.parametrize("length", [0, 12, 14])
def test_a_packed_run_has_one_length(length: int) -> None:
    with pytest.raises(CorruptStreamError, match=r"10 codes of 10 bits in .* bytes, expected 13"):
        unpack(bytes(length), 10, 10)


@_SETTINGS
@given(st.integers(1, 16), st.integers(1, 40), st.randoms(use_true_random=False))
def test_unshuffle_undoes_shuffle(width: int, count: int, random: object) -> None:
    data = _bytes(random.randbytes(width * count))  # type: ignore[attr-defined]
    assert np.array_equal(unshuffle(shuffle(data, width), width), data)


def test_shuffled_bytes_are_planes() -> None:
    assert shuffle(_bytes(b"aAxbBycCz"), 3).tobytes() == b"abcABCxyz"


def test_streams_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK_ITEMS", 7)
    plane = np.arange(16, dtype=np.uint8)
    stream = plane_stream("phase", plane)
    assert (stream.kind, stream.codec, stream.decoded) == ("phase", "zstd", 16)
    assert [decompress(chunk, size).tolist() for chunk, size in zip(stream.chunks, (7, 7, 2), strict=True)] == [
        list(range(7)),
        list(range(7, 14)),
        [14, 15],
    ]
    packed = packed_stream(plane, 5)
    # 7 codes of 5 bits need 35 bits: every chunk starts at a whole byte.
    assert list(map(len, packed.chunks)) == [5, 5, 2]
    assert (packed.codec, packed.decoded, packed.stored, packed.bits) == ("packed", 12, 12, 5)
    assert [unpack(chunk, size, 5).tolist() for chunk, size in zip(packed.chunks, (7, 7, 2), strict=True)] == [
        list(range(7)),
        list(range(7, 14)),
        [14, 15],
    ]


_RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("data", "width", "codec"),
    [
        (_RANDOM.bytes(999), 1, "none"),
        (_RANDOM.bytes(4 * 999), 4, "none"),
        (bytes(999), 1, "zstd"),
        (b"the same eight bytes 012" * 99, 8, "zstd"),
        (_RANDOM.normal(0.02, 0.001, 999).astype("<f4").tobytes(), 4, "shuffle+zstd"),
        (np.arange(0, 99_900, 100, dtype="<i8").tobytes(), 8, "shuffle+zstd"),
    ],
)
def test_values_take_the_smallest_codec_and_come_back(data: bytes, width: int, codec: str) -> None:
    stream = value_stream(_bytes(data), width)
    assert (stream.kind, stream.codec, stream.decoded) == ("values", codec, len(data))
    others = {"none": len(data), "zstd": len(compress(_bytes(data)))}
    if width > 1:
        others["shuffle+zstd"] = len(compress(shuffle(_bytes(data), width)))
    assert stream.stored == min(others.values()) == others[codec]
    (chunk,) = stream.chunks
    plain = _bytes(chunk) if codec == "none" else decompress(chunk, len(data))
    assert (unshuffle(plain, width) if codec == "shuffle+zstd" else plain).tobytes() == data


def test_values_are_cut_at_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK_ITEMS", 3)
    stream = value_stream(_bytes(_RANDOM.bytes(7 * 8)), 8)
    assert list(map(len, stream.chunks)) == [24, 24, 8]


@_SETTINGS
@given(st.data())
def test_pairs_in_a_window_come_back_from_bytes(data: st.DataObject) -> None:
    phases = data.draw(st.integers(1, 256))
    windings = data.draw(st.integers(1, 256 // phases))
    first = (data.draw(st.integers(0, 256 - windings)), data.draw(st.integers(0, 256 - phases)))
    pairs = st.lists(st.tuples(st.integers(0, windings - 1), st.integers(0, phases - 1)), min_size=1, max_size=50)
    winding, phase = (np.array(data.draw(pairs), dtype=np.uint8) + np.array(first, dtype=np.uint8)).T
    window = Window.around(winding, phase)
    assert window is not None
    assert (window.winding, window.phase, window.phases) == (winding.min(), phase.min(), np.ptp(phase) + 1)
    stream = byte_stream(winding, phase, window)
    (chunk,) = stream.chunks
    codes = decompress(chunk, len(winding))
    assert codes.tolist() == [
        (int(q) - window.winding) * window.phases + int(r) - window.phase for q, r in zip(winding, phase, strict=True)
    ]
    for found, expected in zip(window.planes(codes), (winding, phase), strict=True):
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("windings", "phases", "fits"), [(16, 16, True), (1, 256, True), (256, 1, True), (17, 16, False), (2, 129, False)]
)
def test_a_window_has_at_most_256_steps(windings: int, phases: int, fits: bool) -> None:
    winding, phase = np.array([256 - windings, 255], dtype=np.uint8), np.array([phases - 1, 0], dtype=np.uint8)
    assert (Window.around(winding, phase) is not None) == fits


def test_the_beginning_of_a_stream_chooses_the_setting_of_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.clip(np.rint(_RANDOM.normal(8, 1, 40_000)), 0, 15).astype(np.uint8)  # 2 bits a symbol
    words = _RANDOM.integers(0, 16, (300, 9), dtype=np.uint8)[_RANDOM.integers(0, 300, 4000)].reshape(-1)[:35_000]
    assert plane_stream("phase", plain).stored < 0.95 * len(compress(plain))
    assert plane_stream("phase", words).stored == len(compress(words))
    monkeypatch.setattr(streams, "CHUNK_ITEMS", 35_000)
    chunks = plane_stream("phase", np.concatenate([words, plain])).chunks
    assert chunks == tuple(compress(part) for part in (words, plain[:35_000], plain[35_000:]))
    assert plane_stream("phase", np.concatenate([plain, words])).chunks[0] == plane_stream("phase", plain).chunks[0]
