"""Bad files with a compressed header: rules P4, P5, P7, P8, and the places of streams behind it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from tools.format_spec import zstd_frames as frames
from tools.format_spec.bad_header_text import at
from tools.format_spec.bad_streams import SKIPPABLE
from tools.format_spec.builder import Draft, align, draft, exact_layer, plain, seal
from tools.format_spec.good_compressed import squeezed, value_frame
from tools.format_spec.twins import changed, put


def small() -> Draft:
    """Return a good file with two streams that follow each other, and one behind a gap."""
    file = value_frame(value_frame(draft(), "first", b"abcdef"), "second", b"gh")
    return squeezed(exact_layer(file, "third", [3], "U8", b"ijk", plain(b"ijk")))


def _preamble() -> Iterator[tuple[str, bytes]]:
    file = small().encode()
    frame_length, room = int.from_bytes(file[12:16], "little"), int.from_bytes(file[16:24], "little")

    def declaring(length: int) -> bytes:
        return at(file, 12, struct.pack("<I", length))

    yield "P4_beyond_the_header", declaring(room + 1)
    yield "P4_64_bytes_less", declaring(room - 64)
    yield "P4_largest", declaring((1 << 32) - 1)
    yield "P4_of_text", at(exact_layer(draft(), "values", [1], "U8", b"a", plain(b"a")).encode(), 12, b"\1")
    largest = at(at(file, 12, struct.pack("<I", (1 << 26) + 64)), 16, struct.pack("<Q", (1 << 26) + 64))
    yield "P5_compressed_above_limit", seal(largest)
    yield "P5_compressed_beyond_end", seal(at(at(file, 12, b"\0\x10\0\0"), 16, struct.pack("<Q", 1 << 12)))
    yield "P7_compressed_header_changed", at(file, 64 + frame_length - 1, b" ")
    yield "P7_byte_behind_the_frame", at(file, 64 + room - 1, b"\1")
    yield "P8_declared_longer", seal(declaring(frame_length + 1))
    yield "P8_declared_shorter", seal(declaring(frame_length - 1))
    yield "H1_compressed_but_declared_as_text", seal(declaring(0))


def _frames() -> Iterator[tuple[str, bytes]]:
    def framed(frame: Callable[[bytes], bytes]) -> bytes:
        return changed(lambda file: setattr(file, "frame", frame), small)

    yield "P8_text", framed(lambda text: text)
    yield "P8_padded_with_spaces", changed(lambda file: setattr(file, "padding", b" "), small)
    yield "P8_no_content_size", framed(lambda text: frames.frame(text, field=0))
    yield "P8_declares_nothing", framed(lambda _: frames.frame(b""))
    yield "P8_declares_one_byte", framed(lambda _: frames.frame(b" "))
    yield "P8_declares_more", framed(lambda text: frames.frame(text, size=len(text) + 1))
    yield "P8_declares_less", framed(lambda text: frames.frame(text, size=len(text) - 1))
    yield "P8_declares_2_to_the_26_and_1", framed(lambda text: _with_spaces(text, (1 << 26) + 1))
    yield "P8_declares_2_to_the_62", framed(lambda text: frames.frame(text, size=1 << 62, field=8))
    yield "P8_expands_past_its_size", framed(lambda text: frames.frame(text, frames.rle_block(32, 1 << 17), field=4))
    yield "P8_other_magic", framed(lambda text: b"\x28\xb5\x2f\xfe" + frames.frame(text)[4:])
    yield "P8_magic_alone", framed(lambda text: frames.MAGIC)
    yield "P8_byte_behind", framed(lambda text: frames.frame(text) + b"\0")
    yield "P8_two_frames", framed(lambda text: frames.frame(text) * 2)
    yield "P8_empty_frame_behind", framed(lambda text: frames.frame(text) + frames.frame(b""))
    yield "P8_skippable_frame_before", framed(lambda text: SKIPPABLE + frames.frame(text))
    yield "P8_skippable_frame_behind", framed(lambda text: frames.frame(text) + SKIPPABLE)
    yield "P8_skippable_frame_alone", framed(lambda text: SKIPPABLE)
    yield "P8_dictionary", framed(_with_dictionary)
    yield "P8_reserved_block_type", framed(lambda text: frames.frame(text, b"\x1f\0\0" + text))
    yield "P8_wrong_checksum", framed(lambda text: frames.frame(text, checksum=bytes(4)))
    yield "H1_zeros_in_the_frame", framed(lambda text: frames.frame(text + b"\0"))
    yield "H1_spaces_alone_in_the_frame", framed(lambda _: frames.frame(b"   "))


def _with_spaces(text: bytes, size: int) -> bytes:
    """Return a true frame of `size` bytes: `text`, and spaces behind it."""
    most, more = 1 << 17, size - len(text)
    counts = [most] * (more // most) + [more % most]
    spaces = [frames.rle_block(32, count, last=index == len(counts) - 1) for index, count in enumerate(counts)]
    return frames.frame(text, frames.raw_block(text, last=False) + b"".join(spaces), size=size)


def _with_dictionary(text: bytes) -> bytes:
    frame = frames.frame(text, field=4)
    return frame[:4] + bytes([frame[4] | 1]) + b"\7" + frame[5:]


def _places() -> Iterator[tuple[str, bytes]]:
    def start(index: int) -> int:
        return 64 + int.from_bytes(small().encode()[16:24], "little") + small().places()[index]

    file = small().encode()
    for name, index, offset in (("first", 0, start(0)), ("second", 1, start(1)), ("third", 2, 1), ("negative", 1, -1)):
        entry = {"layer": index}
        yield f"S4_offset_{name}", changed(lambda f, e=entry, o=offset: put(f.stream(**e), offset=o), small)
    yield "S10_gap_behind_the_header", seal(file[: start(0)] + bytes(64) + file[start(0) :])
    yield "S10_compressed_byte_appended", seal(file + b"\0")
    yield "S10_compressed_cut_off", seal(file[:-1])
    yield "S10_values_not_aligned", seal(file[: start(1) + len(small().data[1])] + file[start(2) :])
    yield "D1_before_values", changed(lambda file: setattr(file, "gap", b"\1"), small)
    yield "S10_frame_aligned", seal(_padded(file[: start(1)]) + _padded(file[start(1) : start(2)]) + file[start(2) :])
    yield "D2_compressed", at(file, start(1) + 8, b"\xff")


def _padded(data: bytes) -> bytes:
    return data.ljust(align(len(data)), b"\0")


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file; the name starts with the rule that the file breaks."""
    yield from _preamble()
    yield from _frames()
    yield from _places()
