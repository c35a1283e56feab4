"""Reads and validates `.bhk` files: README.md of this folder, section by section, in plain Python with numpy and zstandard.

It is made to be read beside the text, and to compare other readers with. From Python:

    with read("model.bhk") as file:
        file.header            # dict: the header as in section 3.2, defaults and offsets filled in, extension keys left out
        file.names             # all names, aliases too, in the order of the layer map
        file.layer("w")        # its entry in the layer map; file.layer("w")["dtype"] is the name of its data type
        file.tensor("w")       # numpy array, decoded after checking D1 to D4 for this tensor
    validate("model.bhk")      # every rule

numpy has no BF16, F8_E4M3 and F8_E5M2: their arrays are bit patterns, of uint16 and uint8. The other data types are
themselves, BOOL as numpy's bool. Arrays may be read-only. A file that breaks a rule raises `Refused`, whose `rule` is the
one of section 8 that the order of section 9 finds first. Other exceptions (OSError, MemoryError) are no verdict on the file.

From the command line, a line for each file:

    python reference_reader.py FILE…
"""

import hashlib
import json
import math
import os
import re
import sys

import numpy as np
import zstandard

DECODED_LIMIT = 1 << 36  # this reader's own: bytes in memory that one tensor may take (section 13, item 3)


class Refused(Exception):  # noqa: N818
    """The file breaks `rule` (an ID of section 8)."""

    def __init__(self, rule, message):
        super().__init__(f"{rule}: {message}")
        self.rule, self.message = rule, message


def require(holds, rule, message):
    """Refuse the file unless the rule holds."""
    if not holds:
        raise Refused(rule, message)


# ---------------------------------------------------------------------------------------------------- 2 The file

MAGIC = b"\x89BHK\r\n\x1a\n"
ALIGNMENT = 64


def aligned(position):
    """2: the first multiple of 64 at or after a position."""
    return -(-position // ALIGNMENT) * ALIGNMENT


def start_of(stream, end, compressed):
    """2: where a stream starts when the one before, or the header, ends at `end`."""
    return end if compressed and stream["codec"] in ("zstd", "shuffle+zstd") else aligned(end)


def read_exactly(handle, offset, length):
    """Bytes of the file. They were all there when its length was taken, so fewer are a system error (13, item 11)."""
    handle.seek(offset)
    data = handle.read(length)
    if len(data) != length:
        raise OSError(f"the file became shorter while it was read: {length} bytes expected at {offset}")
    return data


def read_preamble(handle, file_length):
    """2, and step 1 of section 9: check the preamble, return H, Z and the text of the header."""
    preamble = read_exactly(handle, 0, min(64, file_length))
    if len(preamble) < 64:
        require(preamble[:8] == MAGIC[: len(preamble)], "P2", "the file does not start with the magic")
        raise Refused("P1", f"the file has {file_length} bytes")
    major = int.from_bytes(preamble[8:10], "little")
    frame_length = int.from_bytes(preamble[12:16], "little")
    length = int.from_bytes(preamble[16:24], "little")
    declared = int.from_bytes(preamble[24:32], "little")
    require(preamble[:8] == MAGIC, "P2", "the file does not start with the magic")
    require(major == 1, "P3", f"major version {major}")
    fits = 64 + length == aligned(64 + frame_length)
    require(frame_length == 0 or fits, "P4", f"compressed header of {frame_length} bytes, header length {length}")
    require(2 <= length <= 2**26 and (64 + length) % 64 == 0, "P5", f"header length {length}")
    require(declared == file_length, "P6", f"the file has {file_length} bytes, not {declared}")
    require(64 + length <= file_length, "P5", f"header of {length} bytes goes beyond the end of the file")
    header = read_exactly(handle, 64, length)
    require(hashlib.sha256(header).digest() == preamble[32:], "P7", "SHA-256 of the header differs")
    if frame_length == 0:
        return length, 0, header
    frame = header[:frame_length]
    require(not any(header[frame_length:]), "P8", "bytes behind the frame of the header are not zero")
    size = content_size(frame, "P8")
    require(size is not None and 2 <= size <= 2**26, "P8", "content size of the frame of the header")
    return length, frame_length, unzstd(frame, size, "P8")


# ---------------------------------------------------------------------------------------------------- 3 The header


class Pairs(list):
    """A JSON object as it stands in the text: pairs of key and value, possibly with a key twice."""


def parse(header):
    """3.1, and step 2 of section 9: the JSON object in the header, as Python dicts, lists, strings and numbers.

    A number is an int if and only if it was written without fraction and exponent.
    """

    def number(text):
        require(math.isfinite(float(text)), "H1", f"number {text[:32]}… is beyond a double")
        return float(text)

    def integer(text):
        number(text)  # also keeps int() from texts that take long
        return int(text)

    def constant(text):
        raise Refused("H1", f"{text} is not JSON")

    try:
        text = header.decode("utf-8")  # strict: overlong forms and surrogates are errors, and json refuses the BOM
        tree = json.loads(text, object_pairs_hook=Pairs, parse_float=number, parse_int=integer, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused("H1", f"not JSON in UTF-8: {error}") from None
    require(isinstance(tree, Pairs), "H1", "the header is not a JSON object")
    require(text.rstrip(" ").endswith("}"), "H1", "something else than spaces behind the header's object")
    check_text(tree, 1)
    return without_duplicates(tree)


def check_text(value, depth):
    """3.1: what rule H1 says of parsed values: nesting, and no lone surrogates (pairs have been joined)."""
    if isinstance(value, str):
        require(not re.search("[\ud800-\udfff]", value), "H1", f"lone surrogate in {value!a}")
    elif isinstance(value, list):  # array, or object as Pairs
        require(depth <= 64, "H1", "nested more than 64 deep")
        for item in value:
            for part in item if isinstance(value, Pairs) else (item,):
                check_text(part, depth + 1)


def without_duplicates(value):
    """3.1: turn objects into dicts; rule H2."""
    if isinstance(value, Pairs):
        result = {key: without_duplicates(item) for key, item in value}
        require(len(result) == len(value), "H2", "an object has a key twice")
        return result
    if isinstance(value, list):
        return [without_duplicates(item) for item in value]
    return value


# The tables of 3.2. A type is "string", "integer", "number", "any", [type], [type, length] for an array, {"": type} for a
# map, or {key: (type, default)} for an object. Fields whose default is None may be null.

# fmt: off
REQUIRED = object()
STREAM = {
    "kind": ("string", REQUIRED), "codec": ("string", "zstd"),
    "stored": ("integer", REQUIRED), "decoded": ("integer", REQUIRED),
    "sha256": ("string", REQUIRED),
    "chunk": ("integer", 2**20), "chunks": (["integer"], []), "bits": ("integer", 0),
    "window": (["integer", 3], None), "offset": ("integer", 0),
}
ERROR = {"mean_abs": ("number", REQUIRED), "max_abs": ("number", REQUIRED), "snr_db": ("number", None)}
LAYER = {
    "name": ("string", REQUIRED), "shape": (["integer"], REQUIRED), "dtype": ("string", REQUIRED),
    "role": ("string", REQUIRED), "encoding": ("string", REQUIRED),
    "pairing": ("string", None), "codebook": ("integer", None), "error": (ERROR, None),
    "streams": ([STREAM], []), "aliases": (["string"], []),
}
CODEBOOK = {
    "centre": (["number", 2], REQUIRED), "side": ("number", REQUIRED), "windings": ("integer", REQUIRED),
    "lattice": ("string", "centred"), "shells": ("integer", 0), "spacing": ("number", 0.0),
}
MODEL = {"family": ("string", REQUIRED), "variant": ("string", None), "arguments": ({"": "any"}, {})}
HEADER = {
    "generator": ("string", REQUIRED), "layers": ([LAYER], REQUIRED), "codebooks": ([CODEBOOK], []),
    "required_features": (["string"], []), "metadata": ({"": "string"}, {}), "model": (MODEL, None),
}
# fmt: on


def typed(value, kind, place):
    """3.2, and step 4 of section 9: the value if it has that type, in objects with defaults and without extensions."""
    if kind == "any":
        return value
    if kind == "string":
        require(isinstance(value, str), "H4", f"{place} is not a string")
        return value
    if kind == "integer":
        require(type(value) is int and abs(value) < 2**53, "H4", f"{place} is not an integer")
        return value
    if kind == "number":
        require(type(value) in (int, float), "H4", f"{place} is not a number")
        return float(value)
    if isinstance(kind, list):
        require(isinstance(value, list), "H4", f"{place} is not an array")
        require(len(kind) == 1 or len(value) == kind[1], "H4", f"{place} has {len(value)} elements")
        return [typed(item, kind[0], f"{place}[]") for item in value]
    require(isinstance(value, dict), "H4", f"{place} is not an object")
    if "" in kind:
        return {key: typed(item, kind[""], f"{place} {key!a}") for key, item in value.items()}
    result = {key: default for key, (_, default) in kind.items()}
    for key, item in value.items():
        if key in kind:
            inner, default = kind[key]
            result[key] = None if item is None and default is None else typed(item, inner, f"{place}.{key}")
        else:
            require(key.startswith("x-"), "H3", f"unknown key {key!a} in {place}")
    missing = [key for key, item in result.items() if item is REQUIRED]
    require(not missing, "H4", f"{place} lacks {', '.join(missing)}")
    return result


ROLES = ("linear", "conv", "embedding", "norm", "bias", "buffer", "other")  # 3.3

# --------------------------------------------------------------------------------- 4 Data types, 5 Pairs, 6.1 Sets

# fmt: off
DTYPES = {  # little-endian
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",  # bit patterns
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
    "BOOL": "u1",  # bytes; the tensor gets numpy's bool
    "C64": "<c8", "C128": "<c16",
}
# fmt: on
DTYPES = {name: np.dtype(code) for name, code in DTYPES.items()}
TRAJECTORY_DTYPES = ("F64", "F32", "F16", "BF16")


def rows_and_row(layer):
    """5: the number of rows and the number of weights in a row."""
    shape = layer["shape"]
    return (math.prod(shape[:-1]), shape[-1]) if layer["pairing"] == "rows" else (1, math.prod(shape))


def stream_sets(layer, codebook):
    """6.1: the lists of kinds that a layer may have."""
    if layer["encoding"] == "exact":
        return [["values"] if math.prod(layer["shape"]) else []]
    shell = ["shell"] if codebook["shells"] else []
    bytes_first = bool(layer["streams"]) and in_bytes(layer["streams"][0])
    return [["winding", "phase", *shell], ["codes", *shell] if bytes_first else ["codes"]]


def in_bytes(stream):
    """6.1: whether each byte of the stream is the code of a pair."""
    return stream["kind"] == "codes" and stream["codec"] == "zstd"


CODECS = {"codes": ("packed", "zstd"), "values": ("none", "zstd", "shuffle+zstd")}  # 6.1; the other kinds: zstd


def items_and_width(layer):
    """6.1: the number of items in each stream of a layer, and the decoded bytes of an item (for `packed` not used)."""
    if layer["encoding"] == "exact":
        return math.prod(layer["shape"]), DTYPES[layer["dtype"]].itemsize
    rows, row = rows_and_row(layer)
    return rows * -(-row // 2), 1


# ---------------------------------------------------------------------------------------------- 6.2 Chunks, 6.3 Codecs


def chunk_count(stream, items):
    """6.2: C."""
    return -(-items // stream["chunk"])


def packed_length(items, bits):
    """6.2: bytes of a packed chunk."""
    return -(-items * bits // 8)


def decoded_length(stream, items, width):
    """6.2: what `decoded` has to be."""
    if stream["codec"] == "packed":
        whole, rest = divmod(items, stream["chunk"])
        return whole * packed_length(stream["chunk"], stream["bits"]) + packed_length(rest, stream["bits"])
    return items * width


def decode_stream(data, stream, items, width):
    """6.2: decode a stream chunk by chunk, to codes (uint32) if packed, else to bytes (uint8)."""
    if stream["codec"] == "none":
        return np.frombuffer(data, "u1")
    lengths = stream["chunks"] or [stream["stored"]]  # for codecs with zstd
    pieces, start = [], 0
    for index in range(chunk_count(stream, items)):
        m = min(stream["chunk"], items - index * stream["chunk"])
        if stream["codec"] == "packed":
            stop = start + packed_length(m, stream["bits"])
            pieces.append(unpack(data[start:stop], m, stream["bits"]))
        else:
            stop = start + lengths[index]
            piece = np.frombuffer(unzstd(data[start:stop], m * width, "D3"), "u1")
            pieces.append(piece if stream["codec"] == "zstd" else piece.reshape(width, m).T.reshape(-1))
        start = stop
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def content_size(frame, rule):
    """6.3: what a zstd frame declares as Frame_Content_Size, or None. Its header is described in RFC 8878, 3.1.1.1."""
    require(frame[:4] == b"\x28\xb5\x2f\xfd" and len(frame) > 4, rule, "not a zstd frame")
    descriptor = frame[4]
    single_segment = descriptor >> 5 & 1
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    dictionary_at = 5 + (1 - single_segment)  # behind Window_Descriptor
    size_at = dictionary_at + dictionary_bytes
    dictionary = int.from_bytes(frame[dictionary_at:size_at], "little")
    require(dictionary == 0, rule, f"a zstd frame needs dictionary {dictionary}")
    if size_bytes == 0:
        return None
    return int.from_bytes(frame[size_at : size_at + size_bytes], "little") + (256 if size_bytes == 2 else 0)


def unzstd(frame, length, rule):
    """6.3: undo one zstd frame, which has to hold `length` bytes."""
    require(content_size(frame, rule) == length, rule, f"a zstd frame does not declare {length} bytes of content")
    try:
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(rule, f"zstd: {error}") from None
    require(len(content) == length, rule, f"a zstd frame has {len(content)} bytes of content, not {length}")
    return content


def unpack(data, count, bits):
    """6.3: `count` unsigned numbers of `bits` bits. As bits ≤ 24, each lies within 4 bytes from where it starts."""
    spare = -count * bits % 8
    require(spare == 0 or data[-1] >> (8 - spare) == 0, "D3", "a bit is set behind the last code of a chunk")
    padded = np.frombuffer(data + bytes(4), "u1")
    position = np.arange(count, dtype="u4") * np.uint32(bits)
    byte = (position >> np.uint32(3)).astype("i8")
    window = np.zeros(count, "u4")
    for place in range(4):
        window |= padded[byte + place].astype("u4") << np.uint32(8 * place)
    return window >> (position & np.uint32(7)) & np.uint32((1 << bits) - 1)


# ------------------------------------------------------------------------------------------------------- 6.4 Codes


def steps_and_shells(streams, window, codebook):
    """6.4: k (uint16) and c (uint8; None when there are no shells) of each pair, from the decoded streams; rule D4."""
    n, shells = codebook["windings"], codebook["shells"]
    c = streams.get("shell")
    if window is not None:
        q0, r0, phases = window
        b = streams["codes"].astype("u4")
        require(int(b.max()) < (n - q0) * phases, "D4", "a byte is out of range")
        q, r = q0 + b // phases, r0 + b % phases
    elif "codes" in streams:
        codes = streams["codes"]
        require(int(codes.max()) < (shells + 1) * n * n, "D4", "a code is out of range")
        if shells == 0:
            return codes.astype("u2"), None
        c, k = np.divmod(codes, np.uint32(n * n))
        return k.astype("u2"), c.astype("u1")
    else:
        q, r = streams["winding"], streams["phase"]
        require(int(q.max()) < n, "D4", "a winding is out of range")
        require(int(r.max()) < n, "D4", "a phase is out of range")
    require(c is None or int(c.max()) <= shells, "D4", "a shell is out of range")
    return q.astype("u2") * np.uint16(n) + r.astype("u2"), c


# ------------------------------------------------------------------------------------------------------ 7 Decoding
# Operations of numpy on float32 give float32, rounded once; subnormal numbers are kept and nothing is contracted.


def scales(codebook):
    """7.1: scale(c) for c = 0 … K."""
    half = np.float32(codebook["side"]) / np.float32(2)
    c = np.arange(codebook["shells"] + 1, dtype=np.float32)
    with np.errstate(over="ignore"):  # rule C4 asks
        return (half + c * np.float32(codebook["spacing"])) / half


def points(codebook):
    """7.1 and 7.2: x and y of the steps k = 0 … n² − 1."""
    n, side = codebook["windings"], np.float32(codebook["side"])
    k = np.arange(n * n, dtype=np.float32)
    q, r = np.divmod(k, np.float32(n))  # exact: whole numbers
    pitch_x = side / np.float32(n * n)
    if codebook["lattice"] == "centred":
        pitch_y = side / np.float32(n)
        x = (k - np.float32((n * n - 1) / 2)) * pitch_x
        y = (r - np.float32((n - 1) / 2)) * pitch_y
    elif codebook["lattice"] == "grid":
        pitch = side / np.float32(n)
        x, y = (q - np.float32(n // 2)) * pitch, (r - np.float32(n // 2)) * pitch
    else:
        pitch_y = np.float32(n) * pitch_x
        x = (k - np.float32(n * n / 2)) * pitch_x
        a = k * pitch_y
        b = (a.astype(np.float64) - q.astype(np.float64) * np.float64(side)).astype(np.float32)
        y = b - side / np.float32(2)
    return x, y


def weights(k, c, codebook):
    """7.3: `first` and `second` of each pair, one after the other."""
    (x, y), scale = points(codebook), scales(codebook)
    centre = np.array(codebook["centre"], np.float32)
    result = np.empty((len(k), 2), np.float32)
    for start in range(0, len(k), 2**20):  # in parts, to need less memory
        part = slice(start, start + 2**20)
        for column, coordinate in enumerate((x, y)):
            point = coordinate[k[part]]
            scaled = point if c is None else point * scale[c[part]]
            result[part, column] = scaled + centre[column]
    return result.reshape(-1)


def rounded(values, dtype):
    """7.4: float32 values in the data type of a trajectory layer."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)).astype("<u2")
    with np.errstate(over="ignore"):
        return values.astype(DTYPES[dtype])


def decode_layer(layer, codebook, streams):
    """4 and 7.4: the tensor, from the decoded streams by kind."""
    dtype, shape = layer["dtype"], layer["shape"]
    if layer["encoding"] == "trajectory":
        k, c = steps_and_shells(streams, layer["streams"][0]["window"], codebook)
        rows, row = rows_and_row(layer)
        padded = weights(k, c, codebook).reshape(rows, -1)
        return rounded(np.ascontiguousarray(padded[:, :row]), dtype).reshape(shape)
    values = streams["values"].view(DTYPES[dtype]) if "values" in streams else np.empty(0, DTYPES[dtype])
    return (values != 0 if dtype == "BOOL" else values).reshape(shape)


# --------------------------------------------------------------- 8 Rules and 9 Order of checking (steps 1, 2, 4: above)


def check_features(header):
    """Step 3: required features. This reader knows those of version 1.2."""
    features = header.get("required_features")
    for feature in features if isinstance(features, list) else ():
        known = not isinstance(feature, str) or feature in ("scalar-bytes", "grid-lattice")
        require(known, "H5", f"required feature {feature!a}")


def check_name(name):
    """Rule N1."""
    require(len(name.encode()) <= 1024, "N1", "a name has more than 1,024 bytes")
    require(not re.search("[\x00-\x1f\x7f-\x9f]", name), "N1", f"control character in name {name!a}")


def check_values(header):
    """Step 5: header values."""
    for key, most in (("layers", 2**20), ("codebooks", 2**20), ("metadata", 4096)):
        require(len(header[key]) <= most, "H6", f"{len(header[key])} {key}")
    for key in header["metadata"]:
        check_name(key)
    for index, book in enumerate(header["codebooks"]):
        check_codebook(book, header["required_features"], f"of codebook {index}")


def check_codebook(book, features, of):
    """Rules C5, C1, C2, C3, C4."""
    side, windings, shells, spacing = book["side"], book["windings"], book["shells"], book["spacing"]
    require(book["lattice"] in ("centred", "corner", "grid"), "C5", f"lattice {book['lattice']!a} {of}")
    require(book["lattice"] != "grid" or "grid-lattice" in features, "C5", f"lattice grid {of} without its feature")
    with np.errstate(over="ignore"):
        for value in (*book["centre"], side, spacing):
            require(float(np.float32(value)) == value, "C1", f"{value} {of} is not a float32")
    require(1 <= windings <= 256, "C2", f"{windings} windings {of}")
    require(0 <= shells <= 255, "C3", f"{shells} shells {of}")
    require(spacing > 0 if shells else spacing == 0, "C3", f"spacing {spacing} {of} with {shells} shells")
    require(2.0**-100 <= side <= 2.0**100, "C4", f"side {side} {of}")
    require(max(map(abs, book["centre"])) <= 2.0**120, "C4", f"centre {book['centre']} {of}")
    require(shells * spacing <= 2.0**120, "C4", f"{shells} shells with spacing {spacing} {of}")  # exact in a double
    require(np.isfinite(scales(book)[-1]), "C4", f"infinite scale {of}")


def check_layers(header, position, file_length, compressed):
    """Step 6: the layer map. The header ends at `position`; set each stream's offset, return the end of the last one."""
    seen = set()
    for layer in header["layers"]:
        require(len(layer["aliases"]) <= 2**20, "H6", f"{len(layer['aliases'])} aliases")
        for name in (layer["name"], *layer["aliases"]):
            check_name(name)
            require(name not in seen, "N2", f"name {name!a} stands twice")
            seen.add(name)
        of = f"of layer {layer['name']!a}"
        check_layer(layer, header["codebooks"], of)
        codebook = None if layer["codebook"] is None else header["codebooks"][layer["codebook"]]
        for stream in layer["streams"]:
            of_stream = f"of stream {stream['kind']} {of}"
            check_coding(stream, codebook, header["required_features"], of_stream)
            check_lengths(stream, *items_and_width(layer), of_stream)
        for stream in layer["streams"]:
            start = start_of(stream, position, compressed)
            require(stream["offset"] == (0 if compressed else start), "S4", f"offset {stream['offset']} {of}")
            stream["offset"] = start
            position = start + stream["stored"]
            require(position <= file_length, "S10", f"a stream {of} goes beyond the end of the file")
    return position


def check_layer(layer, codebooks, of):
    """Step 6, items 2 and 3."""
    shape, pairing, index, error = layer["shape"], layer["pairing"], layer["codebook"], layer["error"]
    require(layer["dtype"] in DTYPES, "L1", f"dtype {layer['dtype']!a} {of}")
    require(layer["role"] in ROLES, "L2", f"role {layer['role']!a} {of}")
    require(layer["encoding"] in ("trajectory", "exact"), "L3", f"encoding {layer['encoding']!a} {of}")
    require(len(shape) <= 32, "L4", f"{len(shape)} dimensions {of}")
    require(all(size >= 0 for size in shape), "L4", f"negative size {of}")
    require(math.prod(size or 1 for size in shape) < 2**48, "L4", f"too many elements {of}")
    codebook = None
    if layer["encoding"] == "exact":
        require(pairing is None, "L5", f"pairing {of}, which is exact")
        require(index is None, "L6", f"codebook {of}, which is exact")
        require(error is None, "L8", f"error {of}, which is exact")
    else:
        require(layer["dtype"] in TRAJECTORY_DTYPES and 0 not in shape, "L7", f"dtype or shape {of}")
        require(pairing == "flat" or (pairing == "rows" and len(shape) >= 2), "L5", f"pairing {pairing!a} {of}")
        require(index is not None and 0 <= index < len(codebooks), "L6", f"codebook {index} {of}")
        require(error is not None and min(error["mean_abs"], error["max_abs"]) >= 0, "L8", f"error {error} {of}")
        codebook = codebooks[index]
    kinds = [stream["kind"] for stream in layer["streams"]]
    for kind in kinds:
        require(kind in ("winding", "phase", "shell", "codes", "values"), "S1", f"stream {kind!a} {of}")
    require(kinds in stream_sets(layer, codebook), "S3", f"streams {kinds} {of}")


def check_coding(stream, codebook, features, of):
    """Step 6, item 4: S2, S8, S11."""
    codec, bits, window = stream["codec"], stream["bits"], stream["window"]
    require(codec in CODECS.get(stream["kind"], ("zstd",)), "S2", f"codec {codec!a} {of}")
    require(not in_bytes(stream) or "scalar-bytes" in features, "S2", f"codec zstd {of} without its feature")
    if codec == "packed":
        most = max(1, ((codebook["shells"] + 1) * codebook["windings"] ** 2 - 1).bit_length())
        require(1 <= bits <= most, "S8", f"{bits} bits a code {of}")
    else:
        require(bits == 0, "S8", f"bits {of}")
    require((window is not None) == in_bytes(stream), "S11", f"window {window} {of}")
    if window is not None:
        q0, r0, phases = window
        n = codebook["windings"]
        require(0 <= q0 < n and r0 >= 0 and phases >= 1 and r0 + phases <= n, "S11", f"window {window} {of}")


def check_lengths(stream, items, width, of):
    """Step 6, item 4: the rest."""
    codec, stored, chunks = stream["codec"], stream["stored"], stream["chunks"]
    require(1 <= stream["chunk"] <= 2**20, "S6", f"chunks of {stream['chunk']} items {of}")
    require(chunk_count(stream, items) <= 2**20, "S6", f"too many chunks {of}")
    require(stream["decoded"] == decoded_length(stream, items, width), "S5", f"decoded length {of}")
    if codec in ("none", "packed"):
        require(not chunks, "S6", f"list of chunks {of}, whose codec is {codec}")
        require(stored == stream["decoded"], "S7", f"stored length {of}")
    else:
        lengths = chunks or [stored]
        require(len(lengths) == chunk_count(stream, items), "S6", f"{len(chunks)} chunks listed {of}")
        require(min(lengths) > 0, "S6", f"chunk of {min(lengths)} bytes {of}")
        require(stored == sum(lengths), "S7", f"stored length {of}")
    require(re.fullmatch("[0-9a-f]{64}", stream["sha256"]), "S9", f"sha256 {of}")


# ------------------------------------------------------------------------------------------------------ 10 Readers


class File:
    """An open file. When it has been constructed, steps 1 to 7 of section 9 are done."""

    def __init__(self, handle):
        self._handle = handle
        length = os.fstat(handle.fileno()).st_size
        header_length, frame_length, text = read_preamble(handle, length)
        tree = parse(text)
        check_features(tree)
        self.header = typed(tree, HEADER, "header")
        self._first = 64 + header_length
        check_values(self.header)
        end = check_layers(self.header, self._first, length, frame_length > 0)
        require(end == length, "S10", f"the streams end at {end}, the file at {length}")  # step 7
        self._layers = {name: layer for layer in self.header["layers"] for name in (layer["name"], *layer["aliases"])}
        self.names = list(self._layers)
        self._streams = [stream for layer in self.header["layers"] for stream in layer["streams"]]
        ends = [self._first, *(stream["offset"] + stream["stored"] for stream in self._streams)]
        self._gaps = {stream["offset"]: end for stream, end in zip(self._streams, ends[:-1], strict=True)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._handle.close()

    def layer(self, name):
        """3.2: the entry of a tensor in the layer map."""
        return self._layers[name]

    def check_padding(self):
        """Step 8: rule D1."""
        for stream in self._streams:
            self._check_gap(stream)

    def _check_gap(self, stream):
        """Rule D1 for the bytes in front of one stream."""
        start, stop = self._gaps[stream["offset"]], stream["offset"]
        require(not any(read_exactly(self._handle, start, stop - start)), "D1", f"bytes before {stop} are not zero")

    def tensor(self, name):
        """Steps 8 and 9 for one layer: rules D1 and D2, then decode with D3 and D4."""
        layer = self._layers[name]
        items, width = items_and_width(layer)
        if items * max(width, 8) > DECODED_LIMIT:
            raise MemoryError(f"tensor {name!a} is larger than this reader's limit")
        stored = [read_exactly(self._handle, stream["offset"], stream["stored"]) for stream in layer["streams"]]
        for data, stream in zip(stored, layer["streams"], strict=True):
            self._check_gap(stream)
            require(hashlib.sha256(data).hexdigest() == stream["sha256"], "D2", f"SHA-256 of a stream of {name!a}")
        streams = {
            stream["kind"]: decode_stream(data, stream, items, width)
            for data, stream in zip(stored, layer["streams"], strict=True)
        }
        codebook = None if layer["codebook"] is None else self.header["codebooks"][layer["codebook"]]
        return decode_layer(layer, codebook, streams)


def read(path):
    """Open a file for reading: steps 1 to 7 of section 9. Tensors are decoded as they are asked for."""
    handle = open(path, "rb")  # noqa: SIM115
    try:
        return File(handle)
    except BaseException:
        handle.close()
        raise


def validate(path):
    """Check every rule and decode every stream. Raises `Refused` for a file that is not sound."""
    with read(path) as file:
        file.check_padding()
        for layer in file.header["layers"]:
            file.tensor(layer["name"])


def main(paths):
    """Print a line for each file: sound, or the rule that it breaks. 0 if all are sound."""
    status = 0
    for path in paths:
        try:
            validate(path)
            print(f"{path}: sound")
        except (Refused, OSError, MemoryError) as error:
            print(f"{path}: {error if isinstance(error, Refused) else ascii(str(error))}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
