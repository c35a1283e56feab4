"""Build good and bad .bhk files from plain values, without the library, as format_spec/README.md says."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tools.format_spec import decoding

MAGIC = b"\x89BHK\r\n\x1a\n"
CHUNK = 1 << 20
Json = dict[str, Any]


def registered(files: dict[str, Callable[[], Draft]]) -> Callable[[Callable[[], Draft]], Callable[[], Draft]]:
    """Return a decorator that puts the function of a good file into `files` under its name."""

    def good(make: Callable[[], Draft]) -> Callable[[], Draft]:
        files[make.__name__] = make
        return make

    return good


def align(offset: int) -> int:
    """Return the next multiple of 64."""
    return -(-offset // 64) * 64


@dataclass
class Draft:
    """A file before it is encoded.

    Attributes:
        header: without what follows from the data: a stream's `stored` and `sha256`, and its `offset` in a header that is
            stored as text, are filled in if absent.
        data: the stored bytes of each stream, in order.
        expected: what a reader should get: tensors by their names.
        gap: the byte that fills the space between streams.
        text: changes the JSON text.
        frame: compresses the text of the header; None stores it as it is.
        padding: the byte that fills the header: by default a space behind text, a zero behind a frame.
    """

    header: Json
    data: list[bytes] = field(default_factory=list)
    expected: dict[str, Json] = field(default_factory=dict)
    minor: int = 0
    gap: bytes = b"\0"
    text: Callable[[str], str] = str
    frame: Callable[[bytes], bytes] | None = None
    padding: bytes | None = None

    @property
    def layers(self) -> list[Json]:
        return self.header["layers"]

    def stream(self, index: int = 0, layer: int = 0) -> Json:
        return self.layers[layer]["streams"][index]

    def copy(self) -> Draft:
        return copy.deepcopy(self)

    def add(self, layer: Json, data: list[bytes], content: bytes) -> Draft:
        """Append a layer, the stored bytes of its streams, and the bytes that it decodes to."""
        self.layers.append(layer)
        self.data += data
        tensor = {"dtype": layer["dtype"], "shape": layer["shape"], "data": content.hex()}
        for name in (layer["name"], *layer.get("aliases", ())):
            self.expected[name] = tensor
        return self

    def encode(self) -> bytes:
        """Return the file."""
        if self.frame is None:
            frame_length, length = 0, align(64 + len(self._text(0))) - 64
            while len(stored := self._text(length)) > length:
                length += 64
        else:
            stored = self.frame(self._text(0))
            frame_length, length = len(stored), align(64 + len(stored)) - 64
        padding = self.padding or (b" " if self.frame is None else b"\0")
        body = b""
        for data, start in zip(self.data, self.places(), strict=True):
            body += self.gap * (start - len(body)) + data
        preamble = MAGIC + struct.pack("<HHIQQ32x", 1, self.minor, frame_length, length, 0)
        return seal(preamble + stored.ljust(length, padding) + body)

    def places(self) -> list[int]:
        """Return where each stream starts, counted from the end of the header."""
        streams = [stream for layer in self.header.get("layers", ()) for stream in layer.get("streams", ())]
        places, end = [], 0
        for index, data in enumerate(self.data):
            codec = streams[index].get("codec", "zstd") if index < len(streams) else "none"
            follows = self.frame is not None and codec not in ("none", "packed")
            places.append(end if follows else align(end))
            end = places[-1] + len(data)
        return places

    def _text(self, length: int) -> bytes:
        header = copy.deepcopy(self.header)
        streams = [stream for layer in header.get("layers", ()) for stream in layer.get("streams", ())]
        for stream, data, start in zip(streams, self.data, self.places(), strict=False):
            if self.frame is None:
                stream.setdefault("offset", 64 + length + start)
            stream.setdefault("stored", len(data))
            stream.setdefault("sha256", hashlib.sha256(data).hexdigest())
        return self.text(json.dumps(header, ensure_ascii=False, separators=(",", ":"))).encode("utf-8", "surrogatepass")


def seal(file: bytes) -> bytes:
    """Return `file` with its true length and the true hash of its header."""
    length = int.from_bytes(file[16:24], "little")
    return file[:24] + struct.pack("<Q", len(file)) + hashlib.sha256(file[64 : 64 + length]).digest() + file[64:]


def draft(*codebooks: Json, **more: Any) -> Draft:
    """Return a file without layers; `more` are entries of its header."""
    header: Json = {"generator": "format_spec vectors", **({"codebooks": list(codebooks)} if codebooks else {}), **more}
    minor = max(
        [{"scalar-bytes": 1, "grid-lattice": 2}[name] for name in more.get("required_features", ())],
        default=0,
    )
    return Draft({**header, "layers": []}, minor=minor)


def codebook(
    windings: int,
    side: float = 0.5,
    *,
    lattice: str = "centred",
    shells: int = 0,
    spacing: float = 0.0,
    centre: tuple[float, float] = (0.0, 0.0),
) -> Json:
    """Return the entry of a codebook."""
    entry: Json = {"centre": list(map(exact, centre)), "side": exact(side), "windings": windings, "lattice": lattice}
    return {**entry, "shells": shells, "spacing": exact(spacing)} if shells else entry


def exact(value: float) -> float:
    """Round to float32."""
    return float(decoding.f32(value))


def pieces(items: Any, count: int) -> list[Any]:
    """Return the items in pieces of `count`."""
    return [items[start : start + count] for start in range(0, len(items), count)]


def pack(codes: list[int], bits: int) -> bytes:
    """Return codes of `bits` bits one after the other, lowest bits first."""
    run = sum(code << index * bits for index, code in enumerate(codes))
    return run.to_bytes((len(codes) * bits + 7) // 8, "little")


def compressed(kind: str, codec: str, decoded: int, frames: list[bytes], chunk: int = CHUNK) -> tuple[Json, bytes]:
    """Return the entry and the stored bytes of a stream of zstd frames."""
    entry: Json = {"kind": kind, "codec": codec, "decoded": decoded, "chunks": list(map(len, frames))}
    return {**entry, **({"chunk": chunk} if chunk != CHUNK else {})}, b"".join(frames)


def packed(codes: list[int], bits: int, chunk: int = CHUNK) -> tuple[Json, bytes]:
    """Return the entry and the stored bytes of a stream of packed codes."""
    data = b"".join(pack(part, bits) for part in pieces(codes, chunk))
    entry: Json = {"kind": "codes", "codec": "packed", "decoded": len(data), "bits": bits}
    return {**entry, **({"chunk": chunk} if chunk != CHUNK else {})}, data


def scalar_bytes(
    file: Draft,
    codes: list[int],
    window: tuple[int, int, int],
    frame: Callable[[bytes], bytes],
    *,
    book: int = 0,
    chunk: int = CHUNK,
) -> list[tuple[Json, bytes]]:
    """Return the streams of `codes` as one byte a pair, and the shells if there are any, each chunk coded by `frame`.

    They need the feature `scalar-bytes` in the header of `file`.
    """
    n = file.header["codebooks"][book]["windings"]
    winding, phase, phases = window
    data = bytes((code // n % n - winding) * phases + code % n - phase for code in codes)
    parts = [frame(part) for part in pieces(data, chunk)]
    entry, stored = compressed("codes", "zstd", len(codes), parts, chunk)
    shells = [stream for stream in planes(file, codes, frame, book=book, chunk=chunk) if stream[0]["kind"] == "shell"]
    return [({**entry, "window": list(window)}, stored), *shells]


def plain(data: bytes, chunk: int = CHUNK) -> tuple[Json, bytes]:
    """Return the entry and the stored bytes of a stream of values as they are."""
    entry: Json = {"kind": "values", "codec": "none", "decoded": len(data)}
    return {**entry, **({"chunk": chunk} if chunk != CHUNK else {})}, data


def shuffle(data: bytes, width: int) -> bytes:
    """Return the first bytes of all elements of `width` bytes, then their second bytes, and so on."""
    return b"".join(data[place::width] for place in range(width))


def exact_layer(
    file: Draft, name: str, shape: list[int], dtype: str, content: bytes, stream: tuple[Json, bytes] | None, **more: Any
) -> Draft:
    """Add an exact layer to `file`."""
    layer = {"name": name, "shape": shape, "dtype": dtype, "role": "other", "encoding": "exact", **more}
    if stream is None:
        return file.add(layer, [], content)
    return file.add({**layer, "streams": [stream[0]]}, [stream[1]], content)


def coded_layer(
    file: Draft,
    name: str,
    shape: list[int],
    codes: list[int],
    streams: list[tuple[Json, bytes]],
    *,
    dtype: str = "F32",
    pairing: str = "flat",
    book: int = 0,
    **more: Any,
) -> Draft:
    """Add a trajectory layer to `file`."""
    assert len(codes) == decoding.pair_count(shape, pairing), (name, len(codes), decoding.pair_count(shape, pairing))
    content = decoding.tensor_bytes(decoding.weights(file.header["codebooks"][book], codes), shape, pairing, dtype)
    layer = {
        "name": name,
        "shape": shape,
        "dtype": dtype,
        "role": "linear",
        "encoding": "trajectory",
        "pairing": pairing,
    }
    coded = {"codebook": book, "error": {"mean_abs": 0.00123, "max_abs": 0.00456, "snr_db": 30.5}}
    return file.add(
        {**layer, **coded, "streams": [entry for entry, _ in streams], **more}, [data for _, data in streams], content
    )


def planes(
    file: Draft, codes: list[int], frame: Callable[[bytes], bytes], *, book: int = 0, chunk: int = CHUNK
) -> list[tuple[Json, bytes]]:
    """Return the plane streams of `codes`, each chunk coded by `frame`."""
    entry = file.header["codebooks"][book]
    n, shells = entry["windings"], entry.get("shells", 0)
    kinds = {"winding": [c % n**2 // n for c in codes], "phase": [c % n for c in codes]}
    if shells:
        kinds["shell"] = [c // n**2 for c in codes]
    return [
        compressed(kind, "zstd", len(codes), [frame(part) for part in pieces(bytes(plane), chunk)], chunk)
        for kind, plane in kinds.items()
    ]
