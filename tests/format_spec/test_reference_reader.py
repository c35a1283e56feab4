"""Three readers, one text: those in format_spec/ were written from README.md without a look at the library.

Whatever the bytes, all must give the same tensors or name the same rule. The one in JavaScript takes part where Node is
installed.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
import zstandard
from container.memory import header_text, is_compressed, with_text
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from javascript import third_reader

import bhk
from bhk.codec.dtypes import DTYPE_NAMES, TORCH_DTYPES
from bhk.codec.shape import Shape
from bhk.codec.streams import Stream, Window, compress, pack, shuffle
from bhk.codec.tensor import tensor_bytes
from bhk.container.errors import CodebookRangeError, FormatError
from bhk.container.header import DTYPES, CodebookEntry, ErrorEntry, Header, LayerEntry, StreamEntry
from bhk.container.writer import ContainerWriter
from format_spec import reference_reader
from tools.format_spec.builder import Draft, align, seal

FORMAT_SPEC = Path(__file__).parents[2] / "format_spec"
VECTORS = FORMAT_SPEC / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))
GOOD = sorted(path for path, entry in MANIFEST.items() if entry["verdict"] == "good")

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]


def library(path: Path) -> Tensors | str:
    """Return what the library makes of a file: its tensors, or the rule that it breaks."""
    try:
        with bhk.open(path) as file:
            file.container.check_padding()
            tensors = {name: file.tensor(name) for name in file.names}
    except FormatError as error:
        return error.rule
    return {
        name: (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor_bytes(tensor).tobytes())
        for name, tensor in tensors.items()
    }


def reference(path: Path) -> Tensors | str:
    """Return what the reference reader makes of it."""
    try:
        with reference_reader.read(path) as file:
            file.check_padding()
            tensors = {name: (file.layer(name)["dtype"], file.tensor(name)) for name in file.names}
    except reference_reader.Refused as error:
        return error.rule
    return {name: (dtype, array.shape, array.tobytes()) for name, (dtype, array) in tensors.items()}


def javascript(path: Path) -> Tensors | str:
    """Return what the reader in JavaScript makes of it."""
    found = third_reader.answer(path)
    if isinstance(found, str):
        return found
    return {name: (t["dtype"], tuple(t["shape"]), bytes.fromhex(t["data"])) for name, t in found.items()}


def agreed(path: Path, *, frames_changed: bool = False) -> Tensors | str:
    """Return what the readers make of a file, which must be the same.

    The two in Python share a zstd decoder. Where it tolerates a changed frame, the one in JavaScript may refuse the frame.
    """
    found, expected = reference(path), library(path)
    third = javascript(path) if third_reader.NODE else found
    for other in (expected, third):
        refused = frames_changed and other is third and other in ("D3", "P8")
        if not refused and {"D3", "D4"} != {str(found), str(other)}:  # a layer may be refused for either
            assert other == found
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reference_reader") / "file.bhk"


# -------------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("name", MANIFEST)
def test_all_give_the_verdict_of_every_vector(name: str) -> None:
    found = agreed(VECTORS / name)
    if MANIFEST[name]["verdict"] != "good":
        assert found == MANIFEST[name]["verdict"]
        with pytest.raises(reference_reader.Refused) as caught:
            reference_reader.validate(VECTORS / name)
        assert caught.value.rule == found
        return
    reference_reader.validate(VECTORS / name)
    expected = json.loads((VECTORS / name).with_suffix(".json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    assert list(found) == list(expected)
    for key, (dtype, shape, data) in found.items():
        assert {"dtype": dtype, "shape": list(shape), "data": data.hex()} == expected[key]


def test_the_reference_reader_checks_padding_with_the_stream_behind_it() -> None:
    path = VECTORS / "bad/D1_between_streams.bhk"
    with reference_reader.read(path) as file, pytest.raises(reference_reader.Refused) as caught:
        [file.tensor(name) for name in file.names]
    assert caught.value.rule == "D1"


def test_header_and_arrays_are_as_documented() -> None:
    with reference_reader.read(VECTORS / "good/exact_dtypes.bhk") as file:
        kinds = {file.layer(name)["dtype"]: file.tensor(name).dtype for name in file.names}
        assert kinds["BF16"] == np.uint16
        assert kinds["F8_E4M3"] == kinds["F8_E5M2"] == np.uint8
        assert kinds["BOOL"] == np.bool_
        assert kinds["C128"] == np.complex128
        assert file.header["model"] is None


def test_command_line_prints_a_line_for_each_file(tmp_path: Path) -> None:
    names = ["good/example.bhk", "bad/D4_packed.bhk", "bad/no_such_file.bhk"]
    run = subprocess.run(
        [sys.executable, FORMAT_SPEC / "reference_reader.py", *(VECTORS / name for name in names)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 1
    assert len(lines) == 3
    assert lines[0].endswith("example.bhk: sound")
    assert "D4_packed.bhk: D4: " in lines[1]


def test_reference_reader_is_independent_of_the_library() -> None:
    text = (FORMAT_SPEC / "reference_reader.py").read_text(encoding="utf-8")
    imports = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imports - sys.stdlib_module_names == {"numpy", "zstandard"}


# ---------------------------------------------------------------------------------------------------- state dicts

_SHAPES = st.sampled_from(
    [(), (0,), (3, 0), (1,), (7,), (1025,), (33, 37), (1, 1501), (1201, 1), (40, 3, 3, 3), (64, 32)]
)
_FILLS = st.sampled_from(["normal", "normal", "outliers", "constant", "zero", "nan", "ramp"])


def make_tensor(dtype: str, shape: tuple[int, ...], fill: str, seed: int) -> torch.Tensor:
    kind = TORCH_DTYPES[dtype]
    generator = torch.Generator().manual_seed(seed)
    count = int(np.prod(shape))
    if dtype not in ("F64", "F32", "F16", "BF16"):
        data = torch.randint(0, 256, (count * DTYPES[dtype],), generator=generator, dtype=torch.uint8)
        return (data > 127 if dtype == "BOOL" else data.view(kind)).reshape(shape)
    values = torch.randn(count, generator=generator) * 0.05
    if fill == "outliers":
        values[::97] *= 100
    elif fill == "constant":
        values.fill_(0.3)
    elif fill == "zero":
        values.zero_()
    elif fill == "nan":
        values[::13] = float("nan")
    elif fill == "ramp":
        values = torch.arange(count) / 1000
    return values.to(kind).reshape(shape)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), _SHAPES, _FILLS, st.integers(0, 99)), min_size=1, max_size=5),
    st.lists(
        st.tuples(st.sampled_from(["F32", "F16", "BF16", "F64"]), _SHAPES, _FILLS, st.integers(0, 99)), max_size=4
    ),
    st.sampled_from(["fine", "balanced", "small", "birkhoff"]),
    st.booleans(),
    st.booleans(),
)
def test_all_read_what_convert_writes(
    path: Path, any_kind: list[Any], floats: list[Any], preset: str, tied: bool, as_safetensors: bool
) -> None:
    state = {f"layer.{index}.weight": make_tensor(*entry) for index, entry in enumerate([*any_kind, *floats])}
    as_safetensors &= not any(entry[0] == "C128" for entry in any_kind)  # it has none
    if as_safetensors:
        safetensors.torch.save_file(state, path.with_suffix(".safetensors"))
    else:
        if tied:
            state["tied.weight"] = state["layer.0.weight"]
        torch.save(state, path.with_suffix(".pth"))
    source = path.with_suffix(".safetensors" if as_safetensors else ".pth")
    bhk.convert(source, path, quality=preset, threads=1, force=True)
    found = agreed(path)
    assert isinstance(found, dict)
    assert found.keys() == state.keys()
    with reference_reader.read(path) as file:
        for name, tensor in state.items():
            dtype, shape, data = found[name]
            assert (TORCH_DTYPES[dtype], shape) == (tensor.dtype, tuple(tensor.shape))
            if file.layer(name)["encoding"] == "exact":
                assert data == tensor_bytes(tensor).tobytes()


# ------------------------------------------------------------------------------------- whatever the format can hold

_sizes = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(2.0**-14, 4, width=32)
_places = st.floats(-(2.0**120), 2.0**120, width=32) | st.floats(-1, 1, width=32)
_shapes = st.lists(st.integers(1, 6), max_size=3).map(tuple) | st.tuples(st.integers(1, 300))


@st.composite
def codebooks(draw: st.DrawFn) -> CodebookEntry:
    shells = draw(st.sampled_from([0, 0, 1, 255]) | st.integers(0, 255))
    windings = draw(st.sampled_from([1, 2, 35, 128, 255, 256]) | st.integers(1, 256))
    spacing = draw(_sizes | st.floats(2.0**-149, 2.0**-100, width=32)) if shells else 0.0
    lattice = draw(st.sampled_from(["centred", "corner", "grid"]))
    return CodebookEntry((draw(_places), draw(_places)), draw(_sizes), windings, lattice, shells, spacing)


def cut(data: Any, items: int) -> list[Any]:
    return [data[start : start + items] for start in range(0, len(data), items)]


def write(writer: ContainerWriter, stream: Stream, chunk: int) -> StreamEntry:
    return msgspec.structs.replace(writer.write([stream])[0], chunk=chunk)


def write_coded(draw: st.DrawFn, writer: ContainerWriter, name: str, index: int, book: CodebookEntry) -> LayerEntry:
    shape = draw(_shapes)
    pairing = draw(st.sampled_from(["rows", "flat"] if len(shape) > 1 else ["flat"]))
    count = Shape(shape, pairing).count
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, largest = book.windings, (book.shells + 1) * book.windings**2 - 1
    codes = rng.integers(0, draw(st.sampled_from([largest, largest, min(largest, 9)])) + 1, count)
    codes[draw(st.integers(0, count - 1))] = draw(st.sampled_from([0, largest]))
    streams = []
    chunk = draw(st.integers(1, 2 * count) | st.just(1 << 20))
    coding = draw(st.sampled_from(["planes", "packed", "bytes"]))
    if coding == "packed":
        bits = draw(st.integers(max(1, int(codes.max()).bit_length()), max(1, largest.bit_length())))
        runs = tuple(pack(part, bits) for part in cut(codes, chunk))
        streams.append(write(writer, Stream("codes", "packed", runs, sum(map(len, runs)), bits), chunk))
    else:
        planes = {"winding": codes // n % n, "phase": codes % n}
        window = None
        if coding == "bytes":
            phases = draw(st.integers(1, n))
            window = Window(draw(st.integers(0, n - 1)), draw(st.integers(0, n - phases)), phases)
            planes = {"codes": rng.integers(0, min((n - window.winding) * phases, 256), count)}
        if book.shells:
            planes["shell"] = codes // n**2
        for kind, plane in planes.items():
            chunk = draw(st.integers(1, 2 * count) | st.just(1 << 20))  # each plane may have its own
            frames = tuple(compress(part) for part in cut(plane.astype(np.uint8), chunk))
            stream = Stream(kind, "zstd", frames, count, window=window if kind == "codes" else None)
            streams.append(write(writer, stream, chunk))
    dtype = draw(st.sampled_from(["F64", "F32", "F16", "BF16"]))
    return LayerEntry(
        name, shape, dtype, "other", "trajectory", pairing, index, tuple(streams), ErrorEntry(0.0, 1.5), (name + "'",)
    )


def write_exact(draw: st.DrawFn, writer: ContainerWriter, name: str) -> LayerEntry:
    shape = draw(_shapes | st.sampled_from([(0,), (2, 0, 3)]))
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    width, count = DTYPES[dtype], int(np.prod(shape))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    data = rng.integers(0, draw(st.sampled_from([2, 256])), count * width).astype(np.uint8)
    codec = draw(st.sampled_from(["none", "zstd", "shuffle+zstd"]))
    chunk = draw(st.integers(1, 2 * count + 1) | st.just(1 << 20))
    parts = cut(data, chunk * width)
    if codec == "none":
        chunks = tuple(part.tobytes() for part in parts)
    else:
        chunks = tuple(compress(part if codec == "zstd" else shuffle(part, width)) for part in parts)
    streams = (write(writer, Stream("values", codec, chunks, len(data)), chunk),) if count else ()
    return LayerEntry(name, shape, dtype, "buffer", "exact", streams=streams)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.data())
def test_all_decode_random_codebooks_codes_and_chunks(path: Path, data: st.DataObject) -> None:
    books = data.draw(st.lists(codebooks(), min_size=1, max_size=2))
    kinds = data.draw(st.lists(st.integers(0, len(books)), min_size=1, max_size=3))
    file = io.BytesIO()
    writer = ContainerWriter(file, 1 << 16)
    layers = [
        write_coded(data.draw, writer, f"w{place}", index, books[index])
        if index < len(books)
        else write_exact(data.draw, writer, f"w{place}")
        for place, index in enumerate(kinds)
    ]
    try:
        writer.finish(Header("test", tuple(layers), tuple(books)))
    except CodebookRangeError:
        assume(False)
    path.write_bytes(file.getvalue())
    found = agreed(path)
    assert isinstance(found, dict)
    path.write_bytes(with_plain_header(path))
    assert agreed(path) == found


def with_plain_header(path: Path) -> bytes:
    """Return a file with its header as text, and with its streams where version 1.0 of the format puts them."""
    data = path.read_bytes()
    with bhk.open(path) as file:
        streams = [stream for layer in file.layers for stream in layer.streams]
    stored = [data[stream.offset : stream.offset + stream.stored] for stream in streams]
    return Draft(json.loads(header_text(data)), stored).encode()


# ---------------------------------------------------------------------------------------------------- broken files


class Pairs(list[tuple[str, Any]]):
    """A JSON object that can have a key twice."""


class Raw(str):
    """JSON text that is put in as it is."""


def dump(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{dump(item)}" for key, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


def walk(value: Any) -> list[Any]:
    """Return every non-empty array and object in a tree."""
    found = [value] if isinstance(value, list) and value else []
    for item in value if isinstance(value, list) else ():
        found += walk(item[1] if isinstance(value, Pairs) else item)
    return found


def with_room(data: bytes) -> tuple[Pairs, int, bytes]:
    """Return the header of a good file as a tree, H and the streams, with room to change a header that is stored as text."""
    length = int.from_bytes(data[16:24], "little")
    tree = json.loads(header_text(data), object_pairs_hook=Pairs)
    more = 0 if is_compressed(data) else align(length + 1024)

    def move(value: Any) -> None:
        for place, item in enumerate(value if isinstance(value, list) else ()):
            if isinstance(value, Pairs) and item[0] == "offset":
                value[place] = ("offset", item[1] + more)
            else:
                move(item[1] if isinstance(value, Pairs) else item)

    move(tree)
    return tree, length + more, data[64 + length :]


def assemble(preamble: bytes, text: str, length: int, streams: bytes) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return with_text(preamble, encoded.ljust(0 if is_compressed(preamble) else length), streams)


_TABLES = ("HEADER", "LAYER", "STREAM", "CODEBOOK", "ERROR", "MODEL")
_KEYS = ["x-more", "X-more", "", *(key for table in _TABLES for key in getattr(reference_reader, table))]
_WORDS = str.split("""
    rows flat trajectory exact F32 U8 F64 BF16 F8_E4M3 bias corner zstd none packed shuffle+zstd codes values
    winding phase shell é""")
_WORDS += ["", "a" * 1025, "\x85", "0" * 64, "\ud800"]
_NUMBERS = str.split("""
    -0 0.0 1.0 1e3 1E+2 -1 1e400 -1e400 1e-400 -1e-400 NaN Infinity 01 1. .5 +1 0.1 0.10000000149011612 1e-45
    1.401298464324817e-45 9007199254740991 9007199254740992 -9007199254740991 16777216 16777217 18446744073709551616
    18446744073709551617 3.4028234663852886e38 3.5e38 1267650600228229401496703205376 2.5e30 1e36 2e36 255 256 257 1048576
    1048577 281474976710656""")
_NUMBERS += ["1" + "0" * 30, "1" + "0" * 308, "1" + "0" * 309]
_OTHERS = str.split("""
    null true false [] {} [null] ["f"] [1,"f"] {"x-a":[1,{"b":null}]} {"x-a":1,"x-a":2} "\\u0000" "\\ud83d\\ude00"
    "\\ude00\\ud83d" 'a' [1,]""")
_OTHERS += ["", "\ufeff1", "[" * 70 + "]" * 70, "[" * 58 + "]" * 58]
_NUMBER_VALUES = st.sampled_from(list(map(Raw, _NUMBERS))) | st.integers(-3, 300)
_VALUES = _NUMBER_VALUES | st.sampled_from(_WORDS) | st.sampled_from(list(map(Raw, _OTHERS)))


def like(old: Any) -> st.SearchStrategy[Any]:
    """Values to put in place of `old`, mostly of its type."""
    same = {int: _NUMBER_VALUES, float: _NUMBER_VALUES, str: st.sampled_from(_WORDS)}.get(type(old), _VALUES)
    return st.one_of(same, same, _VALUES)


def change(draw: Callable[[Any], Any], tree: Pairs) -> None:
    """Change one place of a header."""
    holder = draw(st.sampled_from(walk(tree)))
    place = draw(st.integers(0, len(holder) - 1))
    keyed = isinstance(holder, Pairs)
    key, old = holder[place] if keyed else ("", holder[place])
    what = draw(
        st.sampled_from(["value", "value", "nudge", "nudge", "delete", "twice", "key", "insert", "swap", "copy"])
    )
    new: Any = old
    if what == "delete":
        del holder[place]
        return
    if what == "swap":
        other = draw(st.integers(0, len(holder) - 1))
        holder[place], holder[other] = holder[other], holder[place]
        return
    if what == "key":
        key = draw(st.sampled_from(_KEYS))
    elif what == "nudge" and isinstance(old, (int, float)):
        factor, more = draw(st.sampled_from([(1, 1), (1, -1), (2, 0), (-1, 0), (1, 64), (0, 0), (1, 0.5)]))
        new = old * factor + more
    elif what == "copy":
        source = draw(st.sampled_from(walk(tree)))
        new = copy.deepcopy(
            draw(st.sampled_from([item[1] for item in source] if isinstance(source, Pairs) else source))
        )
    elif what != "twice":
        new = draw(like(old))
    if what == "insert":
        key = draw(st.sampled_from(_KEYS))
    entry = (key, new) if keyed else new
    if what in ("twice", "insert"):
        holder.insert(place, entry)
    else:
        holder[place] = entry


@settings(max_examples=900, deadline=None, derandomize=True)
@given(st.data())
def test_all_judge_changed_headers_alike(path: Path, data: st.DataObject) -> None:
    original = (VECTORS / data.draw(st.sampled_from(GOOD))).read_bytes()
    tree, length, streams = with_room(original)
    for _ in range(data.draw(st.integers(1, 3))):
        if tree:
            change(data.draw, tree)
    path.write_bytes(assemble(original, dump(tree), length, streams))
    agreed(path)


def test_room_in_the_header_changes_nothing(path: Path) -> None:
    for name in GOOD:
        original = (VECTORS / name).read_bytes()
        tree, length, streams = with_room(original)
        path.write_bytes(assemble(original, dump(tree), length, streams))
        assert agreed(path) == agreed(VECTORS / name)


def repaired(data: bytes) -> bytes:
    """Return `data` with the hashes of its streams set right, as far as its header can be read."""
    end = 64 + int.from_bytes(data[16:24], "little")
    behind = data[end:]
    try:
        text = header_text(data)
        streams = [stream for layer in json.loads(text)["layers"] for stream in layer.get("streams", ())]
        for stream in streams:
            start = reference_reader.start_of({"codec": "zstd", **stream}, end, is_compressed(data))
            end = start + stream["stored"]
            text = text.replace(stream["sha256"].encode(), hashlib.sha256(data[start:end]).hexdigest().encode())
    except (ValueError, TypeError, KeyError, AttributeError, zstandard.ZstdError):
        return data
    return with_text(data, text, behind)


@settings(max_examples=900, deadline=None, derandomize=True)
@given(st.data())
def test_all_judge_changed_bytes_alike(path: Path, data: st.DataObject) -> None:
    found = bytearray((VECTORS / data.draw(st.sampled_from(GOOD))).read_bytes())
    first_stream = 64 + int.from_bytes(found[16:24], "little")
    frame_length = int.from_bytes(found[12:16], "little")
    header_end = 64 + (frame_length or len(bytes(found[64:first_stream]).rstrip()))
    where = data.draw(st.sampled_from(["preamble", "header", "header", "streams", "streams", "length"]))
    low, high = {"preamble": (0, 64), "header": (64, header_end), "length": (0, len(found))}.get(
        where, (min(first_stream, len(found) - 1), len(found))
    )
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(low, high - 1))
        what = data.draw(st.sampled_from(["insert", "delete", "cut"] if where == "length" else ["bit", "byte"]))
        if what == "bit":
            found[place] ^= 1 << data.draw(st.integers(0, 7))
        elif what == "byte":
            found[place] = data.draw(st.sampled_from(b'\x00\x01\x20\x7f\x80\xff"\\,:{}[]-+.0123456789eE'))
        elif what == "insert":
            found.insert(place, 0)
        else:
            del found[place : place + 1 if what == "delete" else None]
    result = bytes(found)
    if data.draw(st.integers(0, 3)):
        result = seal(repaired(result)) if len(result) >= 64 else result
    path.write_bytes(result)
    agreed(path, frames_changed=True)
