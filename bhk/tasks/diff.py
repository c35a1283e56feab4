"""What differs between two files: `bhk.diff`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bhk.codec.difference import Difference, compare
from bhk.sam.checkpoints import open_tensors

Status = Literal["equal", "changed", "shape", "dtype", "only a", "only b"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TensorDiff:
    """One name in two files.

    Attributes:
        status: "equal" bit for bit, "changed" values, another "shape" or "dtype", or "only a" / "only b".
        detail: the two shapes or dtypes in words.
        difference: of b from a, when the values were compared.
    """

    name: str
    status: Status
    detail: str = ""
    difference: Difference | None = None


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    key: str | None = None,
    progress: Progress | None = None,
) -> tuple[TensorDiff, ...]:
    """Compare the tensors of two files, each a .bhk file or a checkpoint, here or on the Hub, name by name.

    Args:
        key: which state dict, of a checkpoint that holds several.
        progress: called with (tensors compared, all tensors).

    Raises:
        HubError, ReadError, FormatError, CheckpointError: one of them cannot be read.
    """
    with open_tensors(a, key) as first, open_tensors(b, key) as second:
        in_first, in_second = set(first.names), set(second.names)
        names = [*first.names, *(name for name in second.names if name not in in_first)]
        found = []
        for count, name in enumerate(names, 1):
            if name not in in_second:
                found.append(TensorDiff(name, "only a"))
            elif name not in in_first:
                found.append(TensorDiff(name, "only b"))
            else:
                x, y = first.tensor(name), second.tensor(name)
                if x.shape != y.shape:
                    found.append(TensorDiff(name, "shape", f"{list(x.shape)} and {list(y.shape)}"))
                elif x.dtype != y.dtype:
                    found.append(TensorDiff(name, "dtype", f"{x.dtype} and {y.dtype}"))
                else:
                    difference = compare(x, y)
                    found.append(TensorDiff(name, "equal" if difference.equal else "changed", "", difference))
            if progress:
                progress(count, len(names))
    return tuple(found)
