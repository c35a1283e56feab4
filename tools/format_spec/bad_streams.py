"""Bad files: places and data of streams, rules S4, S10 and D."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tools.format_spec import zstd_frames as frames
from tools.format_spec.bad_header_text import at
from tools.format_spec.builder import (
    Draft,
    align,
    compressed,
    draft,
    exact_layer,
    pack,
    seal,
)
from tools.format_spec.good import minimal
from tools.format_spec.twins import (
    changed,
    chunked,
    coded,
    in_bytes,
    kept,
    padded,
    put,
    short,
    three,
    three_by_three,
)


def _places() -> Iterator[tuple[str, bytes]]:
    def moved(by: int) -> bytes:
        return changed(lambda file: put(file.stream(layer=1), offset=_offset(file, 1) + by), three)

    yield "S4_not_aligned", moved(1)
    yield "S4_overlap", moved(-64)
    yield "S4_in_the_header", changed(lambda file: put(file.stream(), offset=64), kept)
    yield "S4_zero", changed(lambda file: put(file.stream(), offset=0), kept)
    yield "S4_negative", changed(lambda file: put(file.stream(), offset=-64), kept)
    yield "S4_beyond_end", changed(lambda file: put(file.stream(), offset=1 << 40), kept)
    yield "S4_hole", _with_hole()
    file = three().encode()
    yield "S10_cut_off_and_sealed", seal(file[:-1])
    yield "S10_cut_before_the_streams", seal(file[: _offset(three(), 0)])
    yield "S10_byte_appended_and_sealed", seal(file + b"\0")
    yield "S10_padded_at_the_end", seal(file.ljust(align(len(file)), b"\0"))
    yield "S10_bytes_without_streams", seal(minimal().encode() + bytes(64))


def _offset(file: Draft, index: int) -> int:
    """Return where stream `index` of the file starts."""
    return 64 + int.from_bytes(file.encode()[16:24], "little") + file.places()[index]


def _with_hole() -> bytes:
    """Return a file with 64 more zero bytes before its second stream, and with offsets to match."""
    file = three()
    streams = [stream for layer in file.layers for stream in layer.get("streams", ())]
    for index, stream in enumerate(streams[1:], 1):
        stream["offset"] = _offset(three(), index) + 64
    data, at = file.encode(), _offset(three(), 1)
    return seal(data[:at] + bytes(64) + data[at:])


def _data() -> Iterator[tuple[str, bytes]]:
    yield "D1_between_streams", changed(lambda file: setattr(file, "gap", b"\1"), three)
    file = three().encode()
    yield "D1_last_byte_of_a_gap", at(file, _offset(three(), 2) - 1, b"\x80")
    for name, make in (("planes", coded), ("packed", short), ("bytes", in_bytes), ("values", kept)):
        file = make().encode()
        yield f"D2_{name}", at(file, len(file) - 1, bytes([file[-1] ^ 1]))
    yield "D2_hash_changed", changed(lambda file: put(file.stream(), sha256="0" * 64), kept)

    whole = frames.frame(b"abc")

    def stored(*parts: bytes) -> bytes:
        stream = compressed("values", "zstd", 3, [b"".join(parts)])
        return exact_layer(draft(), "values", [3], "U8", b"abc", stream).encode()

    yield "D3_no_content_size", stored(frames.frame(b"abc", field=0))
    yield "D3_declares_more", stored(frames.frame(b"abc", size=4))
    yield "D3_declares_less", stored(frames.frame(b"abc", size=2))
    yield "D3_declares_2_to_the_62", stored(frames.frame(b"abc", size=1 << 62, field=8))
    yield "D3_holds_more_than_declared", stored(frames.frame(b"abcd", size=3))
    yield "D3_holds_less_than_declared", stored(frames.frame(b"ab", size=3))
    yield "D3_expands_past_its_size", stored(frames.frame(b"abc", frames.rle_block(0, 1 << 17), size=3))
    yield "D3_not_a_frame", stored(b"\x28\xb5\x2f\xfe" + whole[4:])
    yield "D3_cut_off", stored(whole[:-1])
    yield "D3_byte_behind", stored(whole, b"\0")
    yield "D3_two_frames", stored(whole, whole)
    yield "D3_empty_frame_behind", stored(whole, frames.frame(b""))
    yield "D3_skippable_frame_before", stored(SKIPPABLE, whole)
    yield "D3_skippable_frame_behind", stored(whole, SKIPPABLE)
    yield "D3_skippable_frame_alone", stored(SKIPPABLE)
    yield "D3_dictionary", stored(frames.MAGIC + b"\x21\x07\x03" + frames.raw_block(b"abc"))
    yield "D3_reserved_block_type", stored(frames.frame(b"abc", b"\x1f\0\0abc"))
    yield "D3_wrong_checksum", _wrong_checksum()
    yield "D3_two_chunks_in_one_frame", changed(_frames_joined, chunked)
    yield "D3_bits_behind_the_last_code", _packed_byte(0x1F)
    yield "D3_bit_behind_the_last_code", _packed_byte(0x8F)
    for name, index, plane, value in (
        ("winding", 0, [0, 34, 34], 35),
        ("phase", 1, [0, 34, 34], 255),
        ("shell", 2, [0, 0, 2], 3),
    ):
        change = changed(lambda file, i=index, p=plane, v=value: _plane(file, i, [*p[:2], v]), coded)
        yield f"D4_{name}", change
    yield "D4_bytes", changed(_byte_beyond, in_bytes)
    yield "D4_padding_pair", changed(lambda file: _plane(file, 0, [0, 40]), padded)
    yield "D4_packed", changed(lambda file: file.data.__setitem__(0, pack([0, 9], 4)), three_by_three)


SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"


def _plane(file: Draft, index: int, plane: list[int]) -> None:
    file.data[index] = frames.frame(bytes(plane))


def _byte_beyond(file: Draft) -> None:
    """Put the window so far up that the last byte, 6 * 35 + 34, is the first of winding 35."""
    put(file.stream(), window=[29, 0, 35])
    _plane(file, 0, [0, 34, 6 * 35])


def _packed_byte(value: int) -> bytes:
    """Return the file whose last packed byte, half of which is padding, is `value`."""
    return changed(lambda file: file.data.__setitem__(0, file.data[0][:-1] + bytes([value])))


def _frames_joined(file: Draft) -> None:
    """Put the first two of three chunks into one frame, and keep the cuts between stored chunks."""
    put(file.stream(), decoded=3)
    lengths = file.stream()["chunks"]
    joined = frames.frame(bytes([0, 34])) + frames.frame(bytes([17]))
    first = len(joined) - sum(lengths[1:])
    file.data[0] = joined
    put(file.stream(), chunks=[first, *lengths[1:]])


def _wrong_checksum() -> bytes:
    data = frames.recorded("checksum")
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    stream = compressed("values", "zstd", 100, [damaged])
    return exact_layer(draft(), "values", [100], "U8", b"", stream).encode()


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file; the name starts with the rule that the file breaks."""
    yield from _places()
    yield from _data()
