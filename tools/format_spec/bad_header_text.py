"""Bad files: preamble and header text, rules P and H1 to H5."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from tools.format_spec.builder import (
    Draft,
    Json,
    seal,
)
from tools.format_spec.good import example, minimal
from tools.format_spec.twins import (
    Change,
    changed,
    put,
    replaced,
    short,
)


def at(file: bytes, offset: int, new: bytes) -> bytes:
    """Return the file with `new` in place of the bytes at an offset."""
    return file[:offset] + new + file[offset + len(new) :]


def _preamble() -> Iterator[tuple[str, bytes]]:
    file = minimal().encode()
    length = int.from_bytes(file[16:24], "little")
    yield "P1_empty", b""
    yield "P1_half_a_magic", file[:4]
    yield "P1_63_bytes", file[:63]
    yield "P2_text_mode", at(file, 0, b"\x89BHK\n\x1a\n\0")
    yield "P2_seven_bits", at(file, 0, b"\x09")
    yield "P2_short_and_other", b"PK\x03\x04"
    yield "P3_major_0", at(file, 8, b"\0\0\1\0")
    yield "P3_major_2", at(file, 8, b"\2\0\0\0")
    yield "P4_reserved", at(file, 15, b"\1")
    yield "P5_no_header", seal(at(file[:64], 16, struct.pack("<Q", 0)))
    yield "P5_not_aligned", seal(at(file + b" ", 16, struct.pack("<Q", length + 1)))
    yield "P5_beyond_end", seal(at(file, 16, struct.pack("<Q", length + 64)))
    yield "P5_above_limit", seal(at(file, 16, struct.pack("<Q", (1 << 26) + 64)))
    yield "P5_2_to_the_64_less_64", seal(at(file, 16, struct.pack("<Q", (1 << 64) - 64)))
    yield "P6_cut_off", example().encode()[:-1]
    yield "P6_byte_appended", example().encode() + b"\0"
    yield "P6_length_0", at(file, 24, bytes(8))
    yield "P7_header_changed", file.replace(b"vectors", b"vectorz")
    yield "P7_hash_changed", at(file, 63, bytes([file[63] ^ 1]))


def _text() -> Iterator[tuple[str, bytes]]:
    def ended_by(padding: bytes) -> Change:
        def change(file: Draft) -> None:
            file.padding = padding

        return change

    yield "H1_padded_with_zeros", changed(ended_by(b"\0"))
    yield "H1_not_utf_8", seal(short().encode().replace(b'"twin"', b'"tw\xe9n"'))
    yield "H1_padded_with_line_feeds", changed(ended_by(b"\n"))
    for name, old, new in (
        ("utf_8_surrogate", "twin", "tw\ud800in"),
        ("byte_order_mark", "{", "\ufeff{"),
        ("nan", '"max_abs":0.00456', '"max_abs":NaN'),
        ("infinity", '"max_abs":0.00456', '"max_abs":-Infinity'),
        ("beyond_double", '"max_abs":0.00456', '"max_abs":1e999'),
        ("integer_beyond_double", '"max_abs":0.00456', '"max_abs":1' + "0" * 309),
        ("lone_surrogate", "twin", "\\ud800"),
        ("lone_surrogate_ignored_key", "{", '{"x-a":"\\udc00\\ud800",'),
        ("lone_surrogate_reversed_pair", '"packed"', '"\\udc00\\ud800"'),
        ("trailing_comma", '"twin"', '"twin",'),
        ("comment", "{", "{/**/"),
        ("single_quotes", '"twin"', "'twin'"),
        ("leading_zero", '"windings":4', '"windings":04'),
        ("leading_point", '"side":0.5', '"side":.5'),
        ("control_character", "twin", "tw\nin"),
        ("nested_65_deep", "{", '{"x-deep":' + "[" * 64 + "]" * 64 + ","),
        ("nested_3000_deep", "{", '{"x-deep":' + "[" * 3000 + "]" * 3000 + ","),
    ):
        yield f"H1_{name}", changed(replaced(old, new))

    def whole(text: Callable[[str], str]) -> bytes:
        file = minimal()
        file.text = text
        return file.encode()

    yield "H1_array", whole(lambda text: f"[{text}]")
    yield "H1_two_objects", whole(lambda text: text + "{}")
    yield "H1_nothing", whole(lambda text: "  ")
    yield "H1_cut_off", whole(lambda text: text[:-1])
    yield "H2_header", changed(replaced("{", '{"generator":"other",'))
    yield "H2_escaped", changed(replaced("{", '{"gener\\u0061tor":"other",'))
    yield "H2_metadata", changed(replaced('"source.name":', '"source.name":"twin","source.name":'))
    yield "H2_ignored_key", changed(replaced("{", '{"x-a":[{"b":1,"b":1}],'))
    yield "H2_ignored_key_twice", changed(replaced("{", '{"x-a":1,"x-a":1,'))


def _types() -> Iterator[tuple[str, bytes]]:
    yield "H3_header", changed(lambda file: put(file.header, note="?"))
    yield "H3_layer", changed(lambda file: put(file.layers[0], Name="?"))
    yield "H3_stream", changed(lambda file: put(file.stream(), level=3))
    yield "H3_codebook", changed(lambda file: put(file.header["codebooks"][0], **{"X-note": 1}))
    yield "H3_error", changed(lambda file: put(file.layers[0]["error"], x_note=1))
    yield "H3_model", changed(lambda file: put(file.header, model={"family": "m", "class": "os.system"}))
    yield "H3_control_character", changed(lambda file: put(file.header, **{"\x1b[31m\n": 1}))
    for place, key in (
        ("header", "generator"),
        ("header", "layers"),
        ("layer", "role"),
        ("stream", "decoded"),
        ("codebook", "side"),
        ("error", "max_abs"),
    ):
        yield f"H4_{place}_without_{key}", changed(lambda file, place=place, key=key: _places_of(file)[place].pop(key))
    yield "H4_model_without_family", changed(lambda file: put(file.header, model={"variant": "v"}))
    for name, place, key, value in (
        ("shape_of_floats", "layer", "shape", [2.0, 3]),
        ("shape_with_bool", "layer", "shape", [True, 3]),
        ("shape_beyond_2_to_the_53", "layer", "shape", [1 << 53, 3]),
        ("shape_a_number", "layer", "shape", 6),
        ("name_a_number", "layer", "name", 6),
        ("aliases_null", "layer", "aliases", None),
        ("windings_a_string", "codebook", "windings", "35"),
        ("side_a_bool", "codebook", "side", True),
        ("centre_of_three", "codebook", "centre", [0.0, 0.0, 0.0]),
        ("offset_null", "stream", "offset", None),
        ("stored_minus_2_to_the_53", "stream", "stored", -(1 << 53)),
        ("error_an_array", "layer", "error", []),
        ("metadata_with_a_number", "header", "metadata", {"a": 1}),
        ("window_of_two", "stream", "window", [0, 0]),
        ("window_of_floats", "stream", "window", [0.0, 0, 4]),
        ("features_a_string", "header", "required_features", "none"),
        ("feature_a_number", "header", "required_features", [1]),
        ("model_a_string", "header", "model", "sam"),
    ):
        yield f"H4_{name}", changed(lambda file, p=place, k=key, v=value: put(_places_of(file)[p], **{k: v}))
    yield "H4_layers_an_object", changed(replaced('"layers":[]', '"layers":{}'), minimal)
    yield "H4_windings_with_exponent", changed(replaced('"windings":4', '"windings":4e0'))
    yield "H4_windings_with_fraction", changed(replaced('"windings":4', '"windings":4.0'))
    yield "H5_feature", changed(lambda file: put(file.header, required_features=["time-travel"]))
    yield (
        "H5_feature_with_its_key",
        changed(lambda file: put(file.header, required_features=["time-travel"], travel="time")),
    )


def _places_of(file: Draft) -> dict[str, Json]:
    return {
        "header": file.header,
        "layer": file.layers[0],
        "stream": file.stream(),
        "codebook": file.header["codebooks"][0],
        "error": file.layers[0]["error"],
    }


def files() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each file; the name starts with the rule that the file breaks."""
    yield from _preamble()
    yield from _text()
    yield from _types()
