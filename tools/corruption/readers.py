"""The readers that are attacked. Each gives the tensors of a file by name: (dtype, shape, bytes)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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

_EITHER = {"D3", "D4"}  # a layer that breaks both may be refused for either
_OWN_LIMIT = "limit"  # what readers need not agree on


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        name: its name.
        read: returns the tensors of a file.
        errors: the errors with which it refuses files.
        rule: what an error says the file breaks: what other readers should say, too.
    """

    name: str
    read: Callable[[Path], Values]
    errors: tuple[type[Exception], ...]
    rule: Callable[[Any], str] = lambda _: "refused"

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
        elif expected is None or found == expected or _may_differ(found, expected):
            outcome = Outcome.REFUSED if refused else Outcome.ACCEPTED
        else:
            outcome = Outcome.DIFFERS
        return outcome, found


def _may_differ(found: Values | str, expected: Values | str) -> bool:
    verdicts = {verdict for verdict in (found, expected) if isinstance(verdict, str)}
    return _OWN_LIMIT in verdicts or verdicts == _EITHER


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
    """Return the reader that was written from the text alone, by which the other is judged, and the library."""
    return (
        Reader("reference", _reference, (reference_reader.Refused,), lambda error: error.rule),
        Reader("bhk", _library, (bhk.BhkError,), _library_rule),
    )


def peers() -> dict[str, Reader]:
    """Return the readers of other formats, by format. gguf has no errors of its own; it raises ValueError."""
    from safetensors import SafetensorError

    return {
        "safetensors": Reader("safetensors", _safetensors, (SafetensorError,)),
        "gguf": Reader("gguf", _gguf, (ValueError,)),
    }
