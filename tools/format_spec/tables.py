"""The generated regions of format_spec/README.md."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable

from bhk.codec.streams import CHUNK_ITEMS
from bhk.codec.trajectory import MAX_WINDINGS
from bhk.container import validate as v
from bhk.container.errors import rules
from bhk.container.header import DTYPES, MAX_INTEGER, ROLES
from bhk.container.header_text import MAX_DEPTH
from tools.format_spec.decoding import weights
from tools.format_spec.good import example as example_file

_DTYPE_MEANING = {
    "F64": "IEEE 754 binary64",
    "F32": "IEEE 754 binary32",
    "F16": "IEEE 754 binary16",
    "BF16": "the upper half of a binary32: 8 bits of exponent, 7 of fraction",
    "F8_E4M3": "OCP 8-bit floating point E4M3: bias 7, no infinity, NaN = `7F` and `FF`",
    "F8_E5M2": "OCP 8-bit floating point E5M2: bias 15, infinities and NaN as in IEEE 754",
    "I64": "integer, two's complement",
    "I32": "integer, two's complement",
    "I16": "integer, two's complement",
    "I8": "integer, two's complement",
    "U64": "integer without sign",
    "U32": "integer without sign",
    "U16": "integer without sign",
    "U8": "integer without sign",
    "BOOL": "zero is false, other bytes are true",
    "C64": "two F32: real part, imaginary part",
    "C128": "two F64: real part, imaginary part",
}
_CODED = ("F64", "F32", "F16", "BF16")
_ROLE_MEANING = {
    "linear": "matrix of a fully connected layer, (outputs, inputs)",
    "conv": "kernel of a convolution, (outputs, inputs, sizes …)",
    "embedding": "table of vectors: tokens, positions",
    "norm": "scale of a normalisation layer",
    "bias": "vector that is added",
    "buffer": "state that is not trained: statistics, counters, fixed matrices",
    "other": "anything else, or not known",
}
_GROUPS = {"P": "Preamble", "H": "Header", "N": "Names", "L": "Layers", "C": "Codebooks", "S": "Streams", "D": "Data"}


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def roles_table() -> str:
    return _table(["`role`", "meaning"], ((f"`{role}`", _ROLE_MEANING[role]) for role in ROLES))


def dtypes_table() -> str:
    rows = ((f"`{n}`", size, _DTYPE_MEANING[n], "yes" if n in _CODED else "no") for n, size in DTYPES.items())
    return _table(["`dtype`", "bytes", "element", "may be a trajectory layer"], rows)


def rules_table() -> str:
    rows = []
    for rule, error in rules().items():
        text = " ".join((inspect.getdoc(error) or "").split())
        rows.append((f"**{rule}**", text.replace("|", "\\|"), f"`{error.__name__}`"))
    groups = ", ".join(f"{letter} {name.lower()}" for letter, name in _GROUPS.items())
    return f"Letters: {groups}.\n\n" + _table(["rule", "what holds in every file", "error in the Python library"], rows)


def limits_table() -> str:
    rows = [
        ("header length H", _power(v.MAX_HEADER_BYTES) + " bytes", "P5"),
        ("text of a compressed header", _power(v.MAX_HEADER_BYTES) + " bytes", "P8"),
        ("nesting of objects and arrays, the header counted", MAX_DEPTH, "H1"),
        ("integers in the header, absolute", f"2^53 - 1 = {MAX_INTEGER:,}", "H4"),
        ("layers; codebooks; aliases of a layer", _power(v.MAX_ENTRIES) + " each", "H6"),
        ("metadata entries", f"{v.MAX_METADATA:,}", "H6"),
        ("bytes of a name or metadata key in UTF-8", f"{v.MAX_NAME_BYTES:,}", "N1"),
        ("dimensions", v.MAX_DIMENSIONS, "L4"),
        ("elements of a tensor", f"{_power(v.MAX_ELEMENTS)} - 1", "L4"),
        ("windings", MAX_WINDINGS, "C2"),
        ("shells", v.MAX_SHELLS, "C3"),
        ("phases of a window", MAX_WINDINGS, "S11"),
        ("items in a chunk", _power(CHUNK_ITEMS), "S6"),
        ("chunks in a stream", _power(v.MAX_CHUNKS), "S6"),
        ("bits of a packed code", ((v.MAX_SHELLS + 1) * MAX_WINDINGS**2 - 1).bit_length(), "S8"),
        ("decoded bytes of a chunk", f"{_power(CHUNK_ITEMS * max(DTYPES.values()))}", "S6"),
    ]
    return _table(["what", "at most", "rule"], rows)


def _power(value: int) -> str:
    assert value & (value - 1) == 0
    return f"2^{value.bit_length() - 1}"


def example() -> str:
    """Return the worked example: the bytes of a small file, and how its codes become weights."""
    draft = example_file()
    file = draft.encode()
    length = int.from_bytes(file[16:24], "little")
    header = json.loads(file[64 : 64 + length])
    stream = header["layers"][0]["streams"][0]
    pairs = weights(header["codebooks"][0], [0, 5, 10, 15])
    first, second = map(float, pairs[1])
    return f"""Preamble:

{_dump(file, 0, 64)}

So H = {length}, and the file has {len(file)} bytes. The header, laid out for reading (in the file it is one line, followed by
{_spaces(file, length)} spaces):

```json
{json.dumps(header, indent=2)}
```

The first stream starts at 64 + {length} = {64 + length}, the second at the next multiple of 64:

{_dump(file, stream["offset"], len(file))}

`weight` has two rows of three weights, so each row is two pairs, the second one padded. Its codes have four bits: the
bytes `50 FA` hold, lowest bits first, 0, 5, 10, 15. There are no shells, so k is the code, and n = 4 gives the windings
q = 0, 1, 2, 3 and the phases r = 0, 1, 2, 3. The lattice is centred: pitch_x = 0.5 / 16 = 0.03125,
pitch_y = 0.5 / 4 = 0.125, h_x = 7.5, h_y = 1.5.

For code 5: x = (5 - 7.5) · 0.03125 = -0.078125 and y = (1 - 1.5) · 0.125 = -0.0625. With the centre (0.0625, -0.03125),
first = {first} and second = {second}. That pair is the end of row 0, so its second weight is padding. The tensor:

    {_row(pairs[0][0], pairs[0][1], pairs[1][0])}
    {_row(pairs[2][0], pairs[2][1], pairs[3][0])}

as bytes: `{draft.expected["weight"]["data"]}`. `bias` is stored as it is: `{draft.expected["bias"]["data"]}`, 1.5 and -2.0."""


def _row(*values: object) -> str:
    return "  ".join(f"{float(value):>10}" for value in values)  # type: ignore[arg-type]


def _spaces(file: bytes, length: int) -> int:
    header = file[64 : 64 + length]
    return len(header) - len(header.rstrip(b" "))


def _dump(file: bytes, start: int, stop: int) -> str:
    lines = []
    for offset in range(start, stop, 16):
        line = file[offset : min(offset + 16, stop)]
        if any(line) or offset + 16 >= stop:
            shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
            lines.append(f"    {offset:04X}  {line.hex(' ').upper():<47}  {shown}")
        elif lines[-1] != "    …     zeros":
            lines.append("    …     zeros")
    return "\n".join(lines)


REGIONS: dict[str, Callable[[], str]] = {
    "roles": roles_table,
    "dtypes": dtypes_table,
    "rules": rules_table,
    "limits": limits_table,
    "example": example,
}
