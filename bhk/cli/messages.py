"""What the command line says of errors. Needs no package, so that it can say that one is missing."""

from __future__ import annotations

import json
import sys

from bhk.base.texts import printable, redact
from bhk.cli.streams import discard_output

_DIFFERENT = {
    "calibration": "--calibrate",
    "qualities": "--presets",
    "snr_db": "--snr",
    'output="multi"': "--multimask",
    "workers=0": "--merge",
    "address": "--ray-address",
}


def as_option(text: str) -> str:
    """Return an option of a message, such as "force=True" or "work_dir", as the command line has it."""
    name, _, value = text.partition("=")
    flag = _DIFFERENT.get(text) or _DIFFERENT.get(name) or f"--{name.replace('_', '-')}"
    return flag if value in ("", "True") or text in _DIFFERENT else f"{flag} {value.strip(chr(34))}"


def print_error(kind: str, message: str) -> None:
    """Print an error as a line on stderr and, with --json, also as a JSON object on stdout; `kind` names its class."""
    line = redact(printable(" ".join(message.split())))
    print(f"error: {line}", file=sys.stderr)
    if "--json" in sys.argv[1:]:
        try:
            print(encodable(json.dumps({"error": {"type": kind, "message": line}}, ensure_ascii=False)), flush=True)
        except OSError:  # stdout is a file on a full disk
            discard_output()


def encodable(text: str) -> str:
    """Return JSON text, or a part of it, with characters escaped if the encoding of stdout lacks one."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # another encoding, or a file name that is not Unicode
        return "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in text)  # all within strings
    return text
