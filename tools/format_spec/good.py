"""Good files with all kinds of headers and exact layers; each function bears the name of its file."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tools.format_spec import zstd_frames as frames
from tools.format_spec.builder import (
    Draft,
    codebook,
    coded_layer,
    compressed,
    draft,
    exact_layer,
    packed,
    pieces,
    plain,
    planes,
    registered,
    shuffle,
)
from tools.format_spec.decoding import SIZES

GOOD: dict[str, Callable[[], Draft]] = {}
good = registered(GOOD)


@good
def minimal() -> Draft:
    return draft()


@good
def example() -> Draft:
    file = draft(codebook(4, 0.5, centre=(0.0625, -0.03125)), metadata={"source.name": "example.pth"})
    codes = [0, 5, 10, 15]
    coded_layer(file, "weight", [2, 3], codes, [packed(codes, 4)], pairing="rows")
    return exact_layer(
        file, "bias", [2], "F32", struct.pack("<2f", 1.5, -2.0), plain(struct.pack("<2f", 1.5, -2.0)), role="bias"
    )


@good
def exact_dtypes() -> Draft:
    file = draft()
    for name, size in SIZES.items():
        content = bytes((index * 37 + 11) % 256 for index in range(3 * size)) if name != "BOOL" else b"\0\1\1"
        exact_layer(file, name.lower(), [3], name, content, plain(content))
    return file


@good
def exact_not_a_number() -> Draft:
    file = draft()
    content = struct.pack("<6I", 0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x7F800000, 0x00000001)
    exact_layer(file, "f32", [2, 3], "F32", content, plain(content))
    content = struct.pack("<3H", 0x7E01, 0x7C01, 0xFC00)
    exact_layer(file, "f16", [3], "F16", content, plain(content))
    return exact_layer(file, "bf16", [3], "BF16", content, plain(content))


@good
def exact_bool_bytes() -> Draft:
    return exact_layer(draft(), "mask", [5], "BOOL", b"\0\1\1\1\0", plain(b"\0\1\2\xff\0"))


@good
def exact_zstd() -> Draft:
    file = draft()
    content = frames.REPEATED
    exact_layer(file, "recorded", [len(content) // 4], "F32", content, _zstd(content, [frames.recorded("repeated")]))
    exact_layer(file, "raw", [5], "I16", content[:10], _zstd(content[:10], [frames.frame(content[:10])]))
    return exact_layer(
        file, "bytes", [3, 1], "U8", b"\7\7\7", _zstd(b"\7\7\7", [frames.frame(b"\7\7\7", frames.rle_block(7, 3))])
    )


def _zstd(content: bytes, parts: list[bytes], **more: int):
    return compressed("values", "zstd", len(content), parts, **more)


def _shuffled(content: bytes, width: int, items: int = 1 << 20):
    parts = [frames.frame(shuffle(part, width)) for part in pieces(content, items * width)]
    return compressed("values", "shuffle+zstd", len(content), parts, items)


@good
def exact_shuffle() -> Draft:
    file = draft()
    for dtype, size in (("F16", 2), ("F32", 4), ("F64", 8), ("C64", 8), ("C128", 16), ("U8", 1)):
        content = bytes((index * 29 + size) % 256 for index in range(5 * size))
        exact_layer(file, dtype.lower(), [5], dtype, content, _shuffled(content, size))
    return file


@good
def exact_chunks() -> Draft:
    file = draft()
    content = bytes((index * 13 + 1) % 256 for index in range(44))
    exact_layer(file, "none", [11], "F32", content, plain(content, 4))
    parts = [frames.frame(part) for part in pieces(content, 12)]
    exact_layer(file, "zstd", [11], "F32", content, _zstd(content, parts, chunk=3))
    exact_layer(file, "shuffle", [11], "F32", content, _shuffled(content, 4, 5))
    exact_layer(file, "full", [2, 11], "U16", content, _shuffled(content, 2, 11))
    exact_layer(
        file,
        "single",
        [3],
        "U8",
        b"abc",
        _zstd(b"abc", [frames.frame(b"a"), frames.frame(b"b"), frames.frame(b"c")], chunk=1),
    )
    return file


@good
def defaults() -> Draft:
    """Defaults: a stream without `codec` is zstd, a single chunk is not listed, a codebook without `lattice` is centred."""
    file = draft(codebook(35, 0.1))
    coded_layer(file, "planes", [6], [0, 1224, 600], planes(file, [0, 1224, 600], frames.frame))
    exact_layer(file, "zstd", [3], "U8", b"abc", _zstd(b"abc", [frames.frame(b"abc")]))
    for layer in file.layers:
        for stream in layer["streams"]:
            del stream["codec"], stream["chunks"]
    exact_layer(file, "shuffle", [2], "I16", b"abcd", _shuffled(b"abcd", 2))
    del file.stream(layer=2)["chunks"], file.header["codebooks"][0]["lattice"]
    return file


@good
def zstd_frames() -> Draft:
    """Every way to declare a content size; several blocks; a checksum; a dictionary ID of 0."""
    file = draft()
    data = frames.skewed(100, 16, 3)
    blocks = b"".join(
        (
            frames.raw_block(b"", last=False),
            frames.raw_block(data[:40], last=False),
            frames.rle_block(data[40], 1, last=False),
        )
    )
    blocks += frames.raw_block(data[41:])
    made = {
        "size in 1 byte": frames.frame(data, field=1),
        "size in 4 bytes": frames.frame(data, field=4),
        "size in 8 bytes": frames.frame(data, field=8),
        "window": frames.windowed_frame(data),
        "four blocks": frames.frame(data, blocks),
        "checksum": frames.recorded("checksum"),
        "dictionary 0": frames.MAGIC + b"\x21\x00" + bytes([len(data)]) + frames.raw_block(data),
    }
    for name, frame in made.items():
        exact_layer(file, name, [100], "U8", data, _zstd(data, [frame]))
    content = data * 3
    return exact_layer(file, "size in 2 bytes", [300], "U8", content, _zstd(content, [frames.frame(content, field=2)]))


@good
def empty_and_scalar() -> Draft:
    file = draft(codebook(35, 0.1, lattice="corner"))
    exact_layer(file, "scalar", [], "I64", struct.pack("<q", -9), plain(struct.pack("<q", -9)))
    for name, shape in {"empty": [0], "no rows": [0, 3], "no columns": [3, 0], "wide": [0, (1 << 48) - 1]}.items():
        exact_layer(file, name, shape, "F32", b"", None)
    exact_layer(file, "empty bool", [0], "BOOL", b"", None, streams=[])
    exact_layer(file, "many dimensions", [1] * 32, "U8", b"\5", plain(b"\5"))
    return coded_layer(file, "coded scalar", [], [700], [packed([700], 10)])


@good
def aliases() -> Draft:
    file = draft(codebook(4, 0.5))
    coded_layer(file, "embedding.weight", [2, 2], [7, 8], [packed([7, 8], 4)], aliases=["head.weight", "copy"])
    return exact_layer(file, "bias", [1], "U8", b"\x2a", plain(b"\x2a"), aliases=["other.bias"])


@good
def extension_keys() -> Draft:
    nested = {"any": [{"thing": None}, True, 1e-3, "text"], "x-": {}}
    file = draft(codebook(4, 0.5), metadata={"x-free": "an entry like any other"}, model={"family": "m"})
    coded_layer(file, "weight", [2, 2], [7, 8], [packed([7, 8], 4)])
    exact_layer(file, "bias", [1], "U8", b"\x2a", plain(b"\x2a"))
    for place in (
        file.header,
        file.header["model"],
        file.header["codebooks"][0],
        *file.layers,
        file.stream(),
        file.layers[0]["error"],
    ):
        place["x-maker-note"] = nested
    file.header["x-"] = [[[]]]
    return file


@good
def model_entry() -> Draft:
    arguments = {
        "layers": 12,
        "x-ray": True,
        "rate": 1e-3,
        "none": None,
        "names": ["a", {"b": []}],
        "metadata": {"x-y": 1},
    }
    file = draft(model={"family": "sam", "variant": "vit_b", "arguments": arguments})
    return exact_layer(file, "bias", [1], "U8", b"\x2a", plain(b"\x2a"))


@good
def metadata() -> Draft:
    entries = {
        "source.name": "a\tb\n",
        "source.sha256": "0" * 64,
        "licence": "Apache-2.0",
        "": "empty key",
        "note": "ü 漢字",
    }
    file = draft(metadata=entries, required_features=[])
    return exact_layer(file, "bias", [1], "U8", b"\x2a", plain(b"\x2a"))


@good
def minor_version_7() -> Draft:
    file = exact_layer(draft(), "bias", [1], "U8", b"\x2a", plain(b"\x2a"))
    file.minor = 7
    return file


@good
def names() -> Draft:
    """Other scripts, look-alikes, escapes, the empty name, the longest name, paths."""
    file = draft()
    texts = [
        "",
        "重み.層",
        "вес",
        "وزن",
        "🧮",
        "é",
        "e\u0301",
        "a",
        "\u0430",
        "../etc/passwd",
        'with "quotes" and \\',
        "n" * 1024,
        "ä" * 512,
        " ",
        "\u202e",
    ]
    for index, name in enumerate(texts):
        exact_layer(file, name, [1], "U8", bytes([index]), plain(bytes([index])))
    return file


@good
def json_notations() -> Draft:
    """White space, escapes, exponents, explicit defaults, null for absent."""
    file = draft(codebook(4, 0.5), metadata={"pair": "clef"}, model=None)
    coded_layer(file, "weight", [2, 2], [7, 8], [packed([7, 8], 4)])
    layer = exact_layer(
        file, "bias", [1], "U8", b"\x2a", plain(b"\x2a"), pairing=None, codebook=None, error=None
    ).layers[1]
    layer["streams"][0] |= {"chunk": 1 << 20, "chunks": [], "bits": 0}
    changes = {
        '"pair":"clef"': '"p\\u0061ir":"\\ud834\\udd1e \\/ \\u0000"',
        '"side":0.5': '"side" :\n5.0E-1,"shells":-0,"spacing":0e5',
        '"centre":[0.0,0.0]': '"centre":[ 0 ,-0.0 ]',
        '"snr_db":30.5': '"snr_db":null',
        '"max_abs":0.00456': '"max_abs":1e-999',
        '"generator"': '\r\n\t "generator"',
    }

    def respell(text: str) -> str:
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        return "\n " + text

    file.text = respell
    return file


@good
def nesting() -> Draft:
    """Objects and arrays 64 levels deep."""
    file = exact_layer(draft(), "bias", [1], "U8", b"\x2a", plain(b"\x2a"))
    file.text = lambda text: text.replace('{"generator"', '{"x-deep":' + "[" * 63 + "]" * 63 + ',"generator"', 1)
    return file
