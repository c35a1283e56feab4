"""The readers that are attacked. Each gives the tensors of a file by name: (dtype, shape, bytes)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import bhk
from bhk.base.limits import TooLargeError
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.tensor import tensor_bytes
from bhk.container.errors import FormatError
from format_spec import reference_reader
from tools.corruption.outcomes import Outcome

Values = dict[str, tuple[str, tuple[int, ...], bytes]]

NODE = shutil.which("node")
_JAVASCRIPT = Path(reference_reader.__file__).parent / "js" / "reader.mjs"
# Answers each path with a line: the tensors, or the rule that the file breaks, or that it is too large for the reader.
_ANSWERS = """
    import { readFileSync } from "node:fs";
    import { createInterface } from "node:readline";
    const { Refused, open } = await import(process.argv[1]);
    for await (const path of createInterface({ input: process.stdin })) {
      let answer = {};
      try {
        const file = await open(new Uint8Array(readFileSync(path)));
        for (const name of file.names) {
          const { dtype, shape, data } = await file.tensor(name);
          (answer.tensors ??= []).push([name, dtype, shape, Buffer.from(data).toString("base64")]);
        }
      } catch (error) {
        const limit = error instanceof RangeError && error.message.includes("too large for this reader");
        answer = error instanceof Refused ? { rule: error.rule } : limit ? { rule: "limit" } : { error: error.stack };
      }
      process.stdout.write(`${JSON.stringify(answer)}\\n`);
    }
"""
_EITHER = {"D3", "D4"}  # a layer that breaks both may be refused for either
_OWN_LIMIT = "limit"  # what readers need not agree on
_FRAMES = {"D3", "P8"}  # the rules that a frame breaks which a decoder refuses


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: its name.
        read: returns the tensors of a file.
        errors: the errors with which it refuses files.
        rule: what an error says the file breaks: what other readers should say, too.
        separate: whether it is another program: its memory is not measured, and its zstd decoder may refuse other frames.
    """

    name: str
    read: Callable[[Path], Values]
    errors: tuple[type[Exception], ...]
    rule: Callable[[Any], str] = lambda _: "refused"
    separate: bool = False

    def judge(self, file: Path, expected: Values | str | None, *, forged: bool) -> tuple[Outcome, Values | str]:
        """Read a file.

        Args:
            expected: what it should give: values, or the rule that it breaks; None if any answer will do.
            forged: whether the file may say what it says: refusing it is no better than reading it.

        Returns:
            the outcome, and the values or the rule.
        """
        found: Values | str
        try:
            found = self.read(file)
        except self.errors as error:
            found = self.rule(error)
        except Exception as error:
            return Outcome.OTHER_ERROR, f"{type(error).__name__}: {error}"
        refused = isinstance(found, str)
        if not forged:
            outcome = Outcome.REFUSED if refused else Outcome.EQUAL if found == expected else Outcome.CHANGED
        elif expected is None or found == expected or self._may_differ(found, expected):
            outcome = Outcome.REFUSED if refused else Outcome.ACCEPTED
        else:
            outcome = Outcome.DIFFERS
        return outcome, found

    def _may_differ(self, found: Values | str, expected: Values | str) -> bool:
        """Return whether the format leaves it to the reader what it makes of a file (section 10)."""
        verdicts = {verdict for verdict in (found, expected) if isinstance(verdict, str)}
        frames = self.separate and bool(verdicts & _FRAMES)
        return frames or _OWN_LIMIT in verdicts or verdicts == _EITHER


def _library(path: Path) -> Values:
    return {
        name: (DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor_bytes(tensor).tobytes())
        for name, tensor in bhk.load_state_dict(path, threads=1).items()
    }


def _library_rule(error: bhk.BhkError) -> str:
    if isinstance(error, FormatError):
        return error.rule
    return _OWN_LIMIT if isinstance(error, TooLargeError) else type(error).__name__


def _reference(path: Path) -> Values:
    with reference_reader.read(path) as file:
        tensors = {name: (file.layer(name)["dtype"], file.tensor(name)) for name in file.names}
    return {name: (dtype, array.shape, array.tobytes()) for name, (dtype, array) in tensors.items()}


class _RefusedError(Exception):
    """The reader in JavaScript has refused a file; the message is the rule."""


@cache
def _node() -> subprocess.Popen[str]:
    """Return a process that answers as long as this one runs."""
    assert NODE is not None
    command = [NODE, "--input-type=module", "--eval", _ANSWERS, _JAVASCRIPT.as_uri()]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="surrogatepass"
    )


def _javascript(path: Path) -> Values:
    process = _node()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{path}\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "rule" in answer:
        raise _RefusedError(answer["rule"])
    if "error" in answer:
        raise RuntimeError(answer["error"])
    tensors = answer.get("tensors", ())
    return {name: (dtype, tuple(shape), base64.b64decode(data)) for name, dtype, shape, data in tensors}


def _safetensors(path: Path) -> Values:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dict
    return {name: _entry(array) for name, array in arrays.items()}


def _gguf(path: Path) -> Values:
    from gguf import GGUFReader

    return {tensor.name: _entry(np.asarray(tensor.data)) for tensor in GGUFReader(path).tensors}


def _entry(array: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.tobytes()


def ours() -> tuple[Reader, ...]:
    """Return the reader that was written from the text alone, by which others are judged, and the library."""
    return (
        Reader("reference", _reference, (reference_reader.Refused,), lambda error: error.rule),
        Reader("bhk", _library, (bhk.BhkError,), _library_rule),
    )


def third() -> tuple[Reader, ...]:
    """Return the reader in JavaScript, where Node is installed."""
    return (Reader("javascript", _javascript, (_RefusedError,), str, separate=True),) if NODE else ()


def peers() -> dict[str, Reader]:
    """Return the readers of other formats, by format. gguf has no errors of its own; it raises ValueError."""
    from safetensors import SafetensorError

    return {
        "safetensors": Reader("safetensors", _safetensors, (SafetensorError,)),
        "gguf": Reader("gguf", _gguf, (ValueError,)),
    }
