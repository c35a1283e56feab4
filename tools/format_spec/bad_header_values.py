"""Bad files: values in the header, rules H6 to S9."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tools.format_spec.builder import (
    Draft,
)
from tools.format_spec.good import aliases, metadata
from tools.format_spec.twins import (
    books,
    changed,
    chunked,
    coded,
    empty,
    in_bytes,
    kept,
    put,
    short,
    three,
)


def _header() -> Iterator[tuple[str, bytes]]:
    yield (
        "H6_metadata_entries",
        changed(lambda file: put(file.header, metadata={f"{i:x}": "" for i in range(4097)}), metadata),
    )
    yield "N1_too_long", changed(lambda file: put(file.layers[0], name="n" * 1025), kept)
    yield "N1_too_many_bytes", changed(lambda file: put(file.layers[0], name="ä" * 512 + "n"), kept)
    yield "N1_escape_code", changed(lambda file: put(file.layers[0], name="\x1b[31mred"), kept)
    yield "N1_nul", changed(lambda file: put(file.layers[0], name="a\0"), kept)
    yield "N1_del", changed(lambda file: put(file.layers[0], name="a\x7f"), kept)
    yield "N1_c1_control", changed(lambda file: put(file.layers[0], name="a\x9b31m"), kept)
    yield "N1_alias", changed(lambda file: put(file.layers[0], aliases=["tab\t"]), kept)
    yield "N1_metadata_key", changed(lambda file: put(file.header, metadata={"line\n": ""}), kept)
    yield "N2_two_layers", changed(lambda file: put(file.layers[1], name="values"), three)
    yield "N2_alias_of_itself", changed(lambda file: put(file.layers[0], aliases=["values"]), kept)
    yield "N2_alias_twice", changed(lambda file: put(file.layers[0], aliases=["a", "b", "a"]), kept)
    yield "N2_alias_and_layer", changed(lambda file: put(file.layers[0], aliases=["bias"]), aliases)


def _layers() -> Iterator[tuple[str, bytes]]:
    for rule, name, make, fields in (
        ("L1", "unknown", kept, {"dtype": "F128"}),
        ("L1", "lower_case", kept, {"dtype": "f32"}),
        ("L2", "unknown", kept, {"role": "weight"}),
        ("L3", "unknown", kept, {"encoding": "raw"}),
        ("L4", "negative", kept, {"shape": [-3]}),
        ("L4", "two_negative", kept, {"shape": [-1, -3]}),
        ("L4", "33_dimensions", kept, {"shape": [1] * 32 + [3]}),
        ("L4", "2_to_the_48_elements", kept, {"shape": [1 << 24, 1 << 24]}),
        ("L4", "overflow", kept, {"shape": [1 << 32, 1 << 32, 3]}),
        ("L4", "zero_and_huge", empty, {"shape": [0, 1 << 48]}),
        ("L4", "zero_between_large", empty, {"shape": [1 << 24, 0, 1 << 24]}),
        ("L5", "exact_with_pairing", kept, {"pairing": "flat"}),
        ("L5", "missing", short, {"pairing": None}),
        ("L5", "unknown", short, {"pairing": "columns"}),
        ("L5", "rows_of_a_vector", short, {"shape": [6], "pairing": "rows"}),
        ("L5", "rows_of_a_scalar", short, {"shape": [], "pairing": "rows"}),
        ("L6", "exact_with_codebook", kept, {"codebook": 0}),
        ("L6", "missing", short, {"codebook": None}),
        ("L6", "beyond", short, {"codebook": 2}),
        ("L6", "negative", short, {"codebook": -1}),
        ("L7", "integers", short, {"dtype": "I32"}),
        ("L7", "float8", short, {"dtype": "F8_E4M3"}),
        ("L7", "empty", short, {"shape": [0, 3]}),
        ("L8", "exact_with_error", kept, {"error": {"mean_abs": 0.0, "max_abs": 0.0}}),
        ("L8", "missing", short, {"error": None}),
        ("L8", "negative_mean", short, {"error": {"mean_abs": -1e-9, "max_abs": 0.0}}),
        ("L8", "negative_maximum", short, {"error": {"mean_abs": 0.0, "max_abs": -1}}),
    ):
        yield f"{rule}_{name}", changed(lambda file, fields=fields: put(file.layers[0], **fields), make)


def _codebooks() -> Iterator[tuple[str, bytes]]:
    for rule, name, book, fields in (
        ("C1", "side_not_float32", 1, {"side": 0.1}),
        ("C1", "centre_not_float32", 1, {"centre": [0.0, 0.3]}),
        ("C1", "centre_beyond_float32", 1, {"centre": [1e300, 0.0]}),
        ("C1", "spacing_not_float32", 0, {"spacing": 0.3}),
        ("C1", "side_an_odd_integer", 1, {"side": (1 << 24) + 1}),
        ("C2", "zero", 1, {"windings": 0}),
        ("C2", "negative", 1, {"windings": -4}),
        ("C2", "257", 1, {"windings": 257}),
        ("C3", "256", 0, {"shells": 256}),
        ("C3", "negative", 0, {"shells": -1}),
        ("C3", "without_spacing", 0, {"spacing": 0.0}),
        ("C3", "negative_spacing", 0, {"spacing": -0.25}),
        ("C3", "spacing_without_shells", 1, {"spacing": 0.25}),
        ("C4", "side_zero", 1, {"side": 0.0}),
        ("C4", "side_negative", 1, {"side": -0.5}),
        ("C4", "side_too_small", 1, {"side": 2.0**-101}),
        ("C4", "side_too_large", 1, {"side": 2.0**100 * (1 + 2.0**-23)}),
        ("C4", "centre_too_far", 1, {"centre": [0.0, -(2.0**121)]}),
        ("C4", "shells_too_far", 0, {"spacing": 2.0**120}),
        ("C4", "infinite_scale", 0, {"side": 2.0**-100, "spacing": 2.0**26}),
        ("C5", "unknown", 1, {"lattice": "center"}),
        ("C5", "grid_without_its_feature", 1, {"lattice": "grid"}),
    ):
        yield (
            f"{rule}_{name}",
            changed(lambda file, b=book, fields=fields: put(file.header["codebooks"][b], **fields), books),
        )


def _streams() -> Iterator[tuple[str, bytes]]:
    def at(make: Callable[[], Draft], index: int, **fields: object) -> bytes:
        return changed(lambda file: put(file.stream(index), **fields), make)

    def without(make: Callable[[], Draft], index: int) -> bytes:
        def change(file: Draft) -> None:
            del file.data[index], file.layers[0]["streams"][index]

        return changed(change, make)

    def swapped(file: Draft) -> None:
        streams = file.layers[0]["streams"]
        streams[0], streams[1] = streams[1], streams[0]
        file.data[0], file.data[1] = file.data[1], file.data[0]

    yield "S1_unknown", at(coded, 0, kind="delta")
    yield "S1_unknown_exact", at(kept, 0, kind="data")
    yield "S2_unknown", at(kept, 0, codec="lz4")
    yield "S2_planes_not_compressed", at(coded, 0, codec="none", chunks=[])
    yield "S2_codes_compressed", at(short, 0, codec="zstd", chunks=[2])
    yield "S2_codes_without_a_codec", changed(lambda file: file.stream().pop("codec"))
    yield "S2_bytes_without_their_feature", changed(lambda file: file.header.pop("required_features"), in_bytes)
    yield "S2_codes_not_compressed", at(short, 0, codec="none")
    yield "S2_values_packed", at(kept, 0, codec="packed")
    yield "S3_values_in_a_trajectory_layer", at(short, 0, kind="values", codec="none", bits=0)
    yield "S3_winding_twice", at(coded, 1, kind="winding")
    yield "S3_order", changed(swapped, coded)
    yield "S3_no_phase", without(coded, 1)
    yield "S3_no_shell", without(coded, 2)
    yield "S3_no_values", without(kept, 0)
    yield "S3_no_streams", without(short, 0)
    yield (
        "S3_shell_without_shells",
        changed(lambda file: put(file.header["codebooks"][0], shells=0, spacing=0.0), coded),
    )
    yield "S3_codes_in_an_exact_layer", at(kept, 0, kind="codes", codec="packed", bits=1)
    yield "S3_bytes_without_shell", without(in_bytes, 1)
    yield "S3_packed_with_shell", at(in_bytes, 0, codec="packed", bits=8, chunks=[])
    yield (
        "S3_bytes_with_shell_without_shells",
        changed(lambda file: put(file.header["codebooks"][0], shells=0, spacing=0.0), in_bytes),
    )
    yield "S3_bytes_and_planes", at(in_bytes, 1, kind="phase")
    yield "S3_values_of_nothing", changed(lambda file: put(file.layers[0], shape=[0]), kept)
    yield "S5_planes", at(chunked, 0, decoded=4)
    yield "S5_packed", at(short, 0, decoded=3)
    yield "S5_bytes", at(in_bytes, 0, decoded=2)
    yield "S5_values", at(kept, 0, decoded=13)
    yield "S5_negative", at(kept, 0, decoded=-12)
    yield "S5_shape_too_large", changed(lambda file: put(file.layers[0], shape=[1 << 39]), kept)
    yield "S5_packed_chunks", changed(lambda file: put(file.stream(), chunk=1))
    yield "S6_chunk_0", at(kept, 0, chunk=0)
    yield "S6_chunk_too_large", at(kept, 0, chunk=(1 << 20) + 1)
    yield "S6_no_chunks", at(chunked, 0, chunks=[])
    yield "S6_one_chunk_of_0_bytes", at(coded, 0, chunks=[], stored=0)
    yield "S6_one_chunk_of_minus_1_bytes", at(coded, 0, chunks=[], stored=-1)
    yield "S6_two_chunks_for_one", at(coded, 0, chunks=[11, 1])
    yield "S6_chunk_of_0_bytes", changed(lambda file: put(file.stream(), chunks=[10, 0, 20]), chunked)
    yield "S6_chunks_of_packed", at(short, 0, chunks=[2])
    yield "S6_chunks_of_none", at(kept, 0, chunks=[12])
    yield (
        "S6_too_many_chunks",
        changed(lambda file: (put(file.layers[0], shape=[(1 << 20) + 1]), put(file.stream(), chunk=1)), kept),
    )
    yield "S7_compressed", at(coded, 0, stored=13)
    yield "S7_packed", at(short, 0, stored=3)
    yield "S7_none", at(kept, 0, stored=11)
    yield "S7_sum_beyond_2_to_the_53", changed(lambda file: put(file.stream(), chunks=[(1 << 53) - 1] * 3), chunked)
    yield "S8_no_bits", at(short, 0, bits=0)
    yield "S8_negative", at(short, 0, bits=-4)
    yield "S8_too_many", at(short, 0, bits=5)
    yield "S8_of_a_plane", at(chunked, 0, bits=8)
    yield "S8_of_values", at(kept, 0, bits=32)
    yield "S8_of_bytes", at(in_bytes, 0, bits=8)
    yield "S9_upper_case", changed(lambda file: put(file.stream(), sha256="A" * 64), kept)
    yield "S9_too_short", changed(lambda file: put(file.stream(), sha256="0" * 63), kept)
    yield "S9_line_feed", changed(lambda file: put(file.stream(), sha256="0" * 64 + "\n"), kept)
    yield "S9_empty", changed(lambda file: put(file.stream(), sha256=""), kept)
    yield "S11_missing", changed(lambda file: file.stream().pop("window"), in_bytes)
    yield "S11_null", at(in_bytes, 0, window=None)
    yield "S11_of_a_plane", at(in_bytes, 1, window=[0, 0, 35])
    yield "S11_of_packed_codes", at(short, 0, window=[0, 0, 4])
    yield "S11_of_values", at(kept, 0, window=[0, 0, 1])
    for name, window in (
        ("winding_negative", [-1, 0, 35]),
        ("winding_beyond", [35, 0, 35]),
        ("phase_negative", [0, -1, 35]),
        ("no_phases", [0, 0, 0]),
        ("phases_negative", [0, 0, -35]),
        ("phases_beyond", [0, 1, 35]),
        ("phases_far_beyond", [0, 0, (1 << 53) - 1]),
    ):
        yield f"S11_{name}", at(in_bytes, 0, window=window)


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file; the name starts with the rule that the file breaks."""
    yield from _header()
    yield from _layers()
    yield from _codebooks()
    yield from _streams()
