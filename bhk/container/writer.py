"""Writing a .bhk file in one pass: room for the header, the streams behind it, the header filled in at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import BinaryIO

from bhk.codec.streams import Stream
from bhk.container import errors as e
from bhk.container.header import Header, StreamEntry, parse, to_json
from bhk.container.reader import MAGIC, PREAMBLE, VERSION
from bhk.container.validate import MAX_HEADER_BYTES, PREAMBLE_BYTES, align, validate


class ContainerWriter:
    """Writes streams to `file`, a seekable binary file at position 0, then the header in front of them.

    Args:
        reserve: bytes kept for the header; see `bhk.container.room`.
    """

    def __init__(self, file: BinaryIO, reserve: int) -> None:
        self._file = file
        self._header_length = align(PREAMBLE_BYTES + reserve) - PREAMBLE_BYTES
        if self._header_length > MAX_HEADER_BYTES:
            raise e.HeaderLengthError(f"a header of {self._header_length} bytes", f"at most {MAX_HEADER_BYTES}")
        self._end = PREAMBLE_BYTES + self._header_length
        file.write(b"\0" * self._end)

    def write(self, streams: Iterable[Stream]) -> tuple[StreamEntry, ...]:
        """Append the streams of one layer; return their entries for the layer map."""
        return tuple(self._write(stream) for stream in streams)

    def _write(self, stream: Stream) -> StreamEntry:
        offset = align(self._end)
        self._file.write(b"\0" * (offset - self._end))
        digest = hashlib.sha256()
        for chunk in stream.chunks:
            self._file.write(chunk)
            digest.update(chunk)
        self._end = offset + stream.stored
        return stream_entry(stream, offset, digest.hexdigest())

    def finish(self, header: Header) -> int:
        """Write preamble and header; return the length of the file.

        Raises:
            FormatError: the header breaks a rule of the format.
        """
        data = to_json(header)
        if len(data) > self._header_length:
            raise e.HeaderLengthError(f"a header of {len(data)} bytes", f"at most the {self._header_length} reserved")
        data = data.ljust(self._header_length, b" ")
        validate(parse(data), self._header_length, self._end)  # what a reader will see
        preamble = PREAMBLE.pack(
            MAGIC, *VERSION, bytes(4), self._header_length, self._end, hashlib.sha256(data).digest()
        )
        self._file.seek(0)
        self._file.write(preamble + data)
        return self._end


def stream_entry(stream: Stream, offset: int, sha256: str) -> StreamEntry:
    """Return the layer map's entry for `stream` at `offset`."""
    lengths = tuple(map(len, stream.chunks))
    return StreamEntry(
        stream.kind,
        offset,
        stream.stored,
        stream.decoded,
        sha256,
        stream.codec,
        chunks=lengths if "zstd" in stream.codec and len(lengths) > 1 else (),
        bits=stream.bits,
    )
