"""Good files with codes: lattices, shells, pairs, packing, rounding."""

from __future__ import annotations

from collections.abc import Callable

from tools.format_spec import zstd_frames as frames
from tools.format_spec.builder import (
    Draft,
    Json,
    codebook,
    coded_layer,
    compressed,
    draft,
    packed,
    planes,
    registered,
    scalar_bytes,
)

CODED: dict[str, Callable[[], Draft]] = {}
good = registered(CODED)


def spread(below: int, count: int) -> list[int]:
    """Return `count` codes below `below`: the first ones, the last ones, and some between."""
    ends = [0, below - 1, below // 2, 1 % below, max(below - 2, 0)]
    return (ends + [(index * 7919 + index * index * 31) % below for index in range(count)])[:count]


@good
def trajectory_rows() -> Draft:
    file = draft(codebook(16, 0.3, centre=(0.01, -0.02)))
    for name, shape in {"even": [3, 4], "odd": [3, 5], "column": [4, 1], "one": [1, 1], "cube": [2, 3, 3]}.items():
        count = (shape[-1] + 1) // 2
        for size in shape[:-1]:
            count *= size
        codes = spread(256, count)
        coded_layer(file, name, shape, codes, planes(file, codes, frames.frame), pairing="rows")
    return file


@good
def trajectory_flat() -> Draft:
    file = draft(codebook(16, 0.3, centre=(0.01, -0.02)))
    for name, shape in {"even": [3, 4], "odd": [3, 5], "vector": [7], "kernel": [2, 3, 3, 3], "one": [1]}.items():
        count = 1
        for size in shape:
            count *= size
        codes = spread(256, (count + 1) // 2)
        coded_layer(file, name, shape, codes, planes(file, codes, frames.frame), role="conv")
    return file


@good
def trajectory_dtypes() -> Draft:
    file = draft(codebook(64, 0.7, centre=(0.001, 1.0), shells=2, spacing=0.4))
    codes = spread(3 * 64 * 64, 40)
    for dtype in ("F64", "F32", "F16", "BF16"):
        coded_layer(file, dtype.lower(), [79], codes, planes(file, codes, frames.frame), dtype=dtype)
    return file


@good
def trajectory_rounding() -> Draft:
    """Results that lie between two values of F16 and BF16, are subnormal in F16 and F32, or exceed the range of F16."""
    file = draft(
        codebook(256, 2.0**-13, centre=(1.0, 1.0)),
        codebook(2, 2.0**-9, centre=(1.0, 1.001953125)),
        codebook(8, 2.0**-22, centre=(2.0**-24, -(2.0**-24))),
        codebook(16, 2.0**18, centre=(0.0, 2.0**15)),
        codebook(8, 2.0**-100, centre=(2.0**-101, -(2.0**-149))),
        codebook(2, 2.0**-7, centre=(1.0, 1.0078125)),
    )
    for book, entry in enumerate(file.header["codebooks"]):
        codes = spread(entry["windings"] ** 2, min(entry["windings"] ** 2, 36))
        bits = max(1, (entry["windings"] ** 2 - 1).bit_length())
        for dtype in ("F32", "F16", "BF16"):
            coded_layer(file, f"{dtype} {book}", [2 * len(codes)], codes, [packed(codes, bits)], dtype=dtype, book=book)
    return file


def _lattice(lattice: str, *codebooks: Json) -> Draft:
    """Return a file without layers whose codebooks have that lattice."""
    features = {"required_features": ["grid-lattice"]} if lattice == "grid" else {}
    return draft(*({**entry, "lattice": lattice} for entry in codebooks), **features)


def _windings(lattice: str) -> Draft:
    sizes = (1, 2, 3, 35, 40, 64, 128, 255, 256)
    file = _lattice(lattice, *(codebook(n, 0.1 + n / 1000, centre=(0.003, -0.004)) for n in sizes))
    for book, n in enumerate(sizes):
        codes = spread(n * n, 32)
        coded_layer(file, f"{n} windings", [64], codes, planes(file, codes, frames.frame, book=book), book=book)
    return file


@good
def windings_centred() -> Draft:
    return _windings("centred")


@good
def windings_corner() -> Draft:
    return _windings("corner")


@good
def windings_grid() -> Draft:
    return _windings("grid")


def _shells(lattice: str) -> Draft:
    cases = ((35, 1, 0.37), (40, 3, 0.0123), (64, 15, 5.0), (256, 255, 1e-3), (1, 255, 0.7))
    file = draft(*(codebook(n, 0.1, lattice=lattice, shells=k, spacing=d, centre=(0.01, 0.02)) for n, k, d in cases))
    for book, (n, shells, _) in enumerate(cases):
        codes = spread((shells + 1) * n * n, 23)
        coded_layer(file, f"planes {book}", [45], codes, planes(file, codes, frames.frame, book=book), book=book)
        stream = packed(codes, ((shells + 1) * n * n - 1).bit_length())
        coded_layer(file, f"packed {book}", [45], codes, [stream], book=book)
    return file


@good
def shells_centred() -> Draft:
    return _shells("centred")


@good
def shells_corner() -> Draft:
    return _shells("corner")


@good
def grid_zeros() -> Draft:
    """Zeros as first weights, second weights and both, in the square and in shells, in planes, packed codes and bytes."""
    features = ["grid-lattice", "scalar-bytes"]
    file = draft(
        codebook(64, 0.3, lattice="grid", shells=2, spacing=0.25),
        codebook(9, 0.7, lattice="grid"),
        required_features=features,
    )
    for book, (n, shells) in enumerate(((64, 2), (9, 0))):
        half = n // 2
        steps = [half * n + half, half * n, half * n + n - 1, half, (n - 1) * n + half, 0]
        codes = [shell * n * n + step for shell in range(shells + 1) for step in steps]
        for dtype in ("F32", "BF16"):
            streams = planes(file, codes, frames.frame, book=book)
            coded_layer(file, f"planes {dtype} {book}", [2 * len(codes)], codes, streams, dtype=dtype, book=book)
        stream = packed(codes, ((shells + 1) * n * n - 1).bit_length())
        coded_layer(file, f"packed {book}", [2 * len(codes)], codes, [stream], book=book)
    streams = scalar_bytes(file, codes, (0, 0, 9), frames.frame, book=1)
    return coded_layer(file, "bytes", [2 * len(codes)], codes, streams, book=1)


@good
def grid_required_but_unused() -> Draft:
    file = draft(codebook(4, 0.5), required_features=["grid-lattice"])
    return coded_layer(file, "weight", [2, 2], [3, 12], [packed([3, 12], 4)])


@good
def packed_bits() -> Draft:
    """Codes of 1 to 24 bits: more than they need, and fewer than the largest possible code would."""
    file = draft(codebook(256, 0.25, shells=255, spacing=0.125))
    for bits in range(1, 25):
        codes = [0, (1 << bits) - 1, *spread(1 << bits, 5)]
        coded_layer(file, f"{bits} bits", [7, 2], codes, [packed(codes, bits)], pairing="rows")
    return coded_layer(file, "wider than needed", [6], [1, 2, 3], [packed([1, 2, 3], 19)])


@good
def packed_chunks() -> Draft:
    file = draft(codebook(35, 0.1, lattice="corner", shells=3, spacing=0.2))
    codes = spread(4 * 35 * 35, 11)
    for chunk in (1, 3, 10, 11, 12):
        coded_layer(file, f"chunks of {chunk}", [11, 2], codes, [packed(codes, 13, chunk)], pairing="rows")
    return file


@good
def plane_chunks() -> Draft:
    file = draft(codebook(35, 0.1, shells=3, spacing=0.2))
    codes = spread(4 * 35 * 35, 12)
    for chunk in (1, 4, 11, 12):
        streams = planes(file, codes, frames.frame, chunk=chunk)
        coded_layer(file, f"chunks of {chunk}", [3, 7], codes, streams, pairing="rows")
    streams = planes(file, codes, frames.frame, chunk=4)
    streams[1] = planes(file, codes, frames.frame, chunk=5)[1]
    return coded_layer(file, "chunks of 4, 5 and 4", [23], codes, streams)


@good
def planes_recorded() -> Draft:
    """Planes compressed by libzstd: Huffman-coded literals."""
    file = draft(codebook(35, 0.2, centre=(0.002, -0.001)))
    winding, phase = frames.skewed(500, 35, 1), frames.skewed(500, 35, 2)
    codes = [q * 35 + r for q, r in zip(winding, phase, strict=True)]
    streams = [
        compressed("winding", "zstd", 500, [frames.recorded("winding")]),
        compressed("phase", "zstd", 500, [frames.recorded("phase")]),
    ]
    return coded_layer(file, "weight", [20, 50], codes, streams, pairing="rows")


@good
def codebook_extremes() -> Draft:
    """The smallest and largest sides, centres and shells; a negative zero; float32 values in full length."""
    reach, third = 2.0**120, 1 / 3
    file = draft(
        codebook(256, 2.0**-100),
        codebook(256, 2.0**100, lattice="corner", centre=(reach, -reach)),
        codebook(2, 2.0**100, shells=255, spacing=2.0**112, centre=(-reach, reach)),
        codebook(7, third, centre=(-0.0, third), shells=1, spacing=2.0**-149),
        codebook(7, 2.0**-100, shells=128, spacing=2.0**19, lattice="corner"),
    )
    for book, entry in enumerate(file.header["codebooks"]):
        count = (entry.get("shells", 0) + 1) * entry["windings"] ** 2
        codes = spread(count, 24)
        coded_layer(file, f"{book}", [48], codes, [packed(codes, (count - 1).bit_length())], book=book)
    return file


@good
def shared_and_unused_codebooks() -> Draft:
    file = draft(codebook(9, 9.0), codebook(4, 4.0), codebook(4, 4.0, centre=(1.0, 2.0)))
    for name, book in {"a": 1, "b": 1, "c": 2}.items():
        coded_layer(file, name, [2, 2], [3, 12], [packed([3, 12], 4)], book=book)
    return file


def _with_bytes(*codebooks: Json) -> Draft:
    return draft(*codebooks, required_features=["scalar-bytes"])


def within(window: tuple[int, int, int], windings: int, n: int, count: int, shells: int = 0) -> list[int]:
    """Return `count` codes of n windings, in all shells, whose steps are the first `windings` ones of `window`."""
    q0, r0, phases = window
    steps = spread(windings * phases, count)
    return [
        index % (shells + 1) * n * n + (q0 + step // phases) * n + r0 + step % phases
        for index, step in enumerate(steps)
    ]


@good
def bytes_windows() -> Draft:
    """Windows in the middle of the square, at its edges, of one winding, of one phase, and wider than the codes need."""
    file = _with_bytes(codebook(64, 0.3, centre=(0.01, -0.02)), codebook(256, 0.7), codebook(1, 1.0), codebook(16, 0.2))
    cases: dict[str, tuple[int, tuple[int, int, int], int]] = {
        "middle": (0, (24, 25, 16), 16),
        "first corner": (0, (0, 0, 5), 51),
        "last corner": (0, (60, 0, 64), 4),
        "last phases": (0, (0, 60, 4), 64),
        "one winding": (1, (255, 0, 256), 1),
        "one phase": (1, (0, 255, 1), 256),
        "one step": (2, (0, 0, 1), 1),
        "whole square": (3, (0, 0, 16), 16),
        "beyond the square": (0, (62, 3, 61), 2),
    }
    for name, (book, window, windings) in cases.items():
        codes = within(window, windings, file.header["codebooks"][book]["windings"], 24)
        streams = scalar_bytes(file, codes, window, frames.frame, book=book)
        coded_layer(file, name, [48], codes, streams, book=book)
    return file


@good
def bytes_shells() -> Draft:
    file = _with_bytes(
        codebook(16, 0.1, shells=3, spacing=0.2, centre=(0.01, 0.02)),
        codebook(40, 0.1, lattice="corner", shells=255, spacing=0.01),
    )
    for book, window, windings in ((0, (0, 0, 16), 16), (1, (15, 14, 11), 23)):
        entry = file.header["codebooks"][book]
        codes = within(window, windings, entry["windings"], 30, entry["shells"])
        for dtype in ("F32", "BF16"):
            streams = scalar_bytes(file, codes, window, frames.frame, book=book)
            coded_layer(file, f"{dtype} {book}", [59], codes, streams, dtype=dtype, book=book)
    return file


@good
def bytes_chunks() -> Draft:
    """Several chunks, of other lengths for the shells; rows of odd length; beside planes and packed codes."""
    file = _with_bytes(codebook(35, 0.1, shells=3, spacing=0.2))
    codes = within((10, 12, 9), 28 - 3, 35, 12, 3)
    for chunk in (1, 4, 11, 12):
        streams = scalar_bytes(file, codes, (10, 12, 9), frames.frame, chunk=chunk)
        coded_layer(file, f"chunks of {chunk}", [3, 7], codes, streams, pairing="rows")
    streams = scalar_bytes(file, codes, (10, 12, 9), frames.frame, chunk=4)
    streams[1] = scalar_bytes(file, codes, (10, 12, 9), frames.frame, chunk=5)[1]
    coded_layer(file, "chunks of 4 and 5", [23], codes, streams)
    coded_layer(file, "planes", [24], codes, planes(file, codes, frames.frame))
    return coded_layer(file, "packed", [24], codes, [packed(codes, 13)])


@good
def bytes_recorded() -> Draft:
    """Bytes compressed by libzstd: Huffman-coded literals."""
    file = _with_bytes(codebook(35, 0.2, centre=(0.002, -0.001)))
    window = (17, 3, 30)
    codes = [(17 + byte // 30) * 35 + 3 + byte % 30 for byte in frames.skewed(500, 35, 1)]
    entry, data = compressed("codes", "zstd", 500, [frames.recorded("winding")])
    return coded_layer(file, "weight", [20, 50], codes, [({**entry, "window": list(window)}, data)], pairing="rows")


@good
def bytes_required_but_unused() -> Draft:
    file = _with_bytes(codebook(4, 0.5))
    return coded_layer(file, "weight", [2, 2], [3, 12], [packed([3, 12], 4)])
