"""How two files differ: `bhk.diff`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bhk.base.progress import Progress, silent
from bhk.base.report import Report, plain
from bhk.base.tables import Column, Table
from bhk.base.texts import number, scientific
from bhk.codec.difference import Difference, compare
from bhk.hub.address import public_name
from bhk.sam.checkpoints import TensorFile, open_tensors

Status = Literal["equal", "changed", "shape", "dtype", "only a", "only b"]

_COLUMNS = (
    Column("tensor", "left", least=24),
    Column("status", "left"),
    Column("SNR dB"),
    Column("max difference", rank=1),
)


@dataclass(frozen=True)
class TensorDiff:
    """One tensor in two files.

    Attributes:
        name: its name.
        status: "equal" (bit for bit), "changed" (other values), "shape" or "dtype" (these differ), "only a" or
            "only b" (the other file has no such tensor).
        detail: the two shapes or dtypes, if they differ.
        difference: how far b is from a; None if values were not compared.
    """

    name: str
    status: Status
    detail: str = ""
    difference: Difference | None = None


@dataclass(frozen=True)
class DiffReport(Report):
    """What `bhk.diff` found.

    Attributes:
        a, b: the files, as they were given.
        tensors: one entry per name: those of a in its order, then those only b has.
        made_with: how a and b were made; None for a checkpoint.
    """

    a: str
    b: str
    tensors: tuple[TensorDiff, ...]
    made_with: tuple[str | None, str | None] = (None, None)

    @property
    def equal(self) -> bool:
        """Whether both files hold the same tensors, bit for bit."""
        return all(entry.status == "equal" for entry in self.tensors)

    @property
    def counts(self) -> dict[str, int]:
        """How many tensors have each status, the most frequent first."""
        return dict(Counter(entry.status for entry in self.tensors).most_common())

    def lines(self) -> Iterator[str | Table]:
        """Yield a table of the tensors that differ, the counts, and how the files were made if that differs."""
        rows = [
            (
                entry.name,
                f"{entry.status} {entry.detail}".strip(),
                number(entry.difference.snr_db, 1) if entry.difference else "",
                scientific(entry.difference.max_abs) if entry.difference else "",
            )
            for entry in self.tensors
            if entry.status != "equal"
        ]
        if rows:
            yield Table(_COLUMNS, rows)
        yield ", ".join(f"{count} {status}" for status, count in self.counts.items()) or "no tensors"
        if None not in self.made_with and len(set(self.made_with)) == 2:
            yield from (f"{name} was made with {made}" for name, made in zip("ab", self.made_with, strict=True))

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "a": self.a,
            "b": self.b,
            "made_with": plain(self.made_with),
            "counts": self.counts,
            "tensors": plain(self.tensors),
        }


def diff(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    key: str | None = None,
    progress: Progress | None = None,
) -> DiffReport:
    """Compare the tensors of two files by name. Each file is a .bhk file or a checkpoint, local or on the Hub.

    >>> report = bhk.diff("demo_sam.safetensors", "demo_sam.bhk")
    >>> report.equal, report.counts
    (False, {'equal': 147, 'changed': 83})

    Args:
        a: the reference.
        b: the file to compare with it.
        key: the state dict to use, if a checkpoint holds several.
        progress: called with ("Comparing", tensors compared, all tensors).

    Raises:
        HubError, ReadError, FormatError, CheckpointError: one of the files cannot be read.
    """
    progress = progress or silent
    with open_tensors(a, key) as first, open_tensors(b, key) as second:
        names = list(dict.fromkeys([*first.names, *second.names]))
        found = []
        for done, name in enumerate(names, 1):
            found.append(_compared(name, first, second))
            progress("Comparing", done, len(names))
        made = (first.made_with, second.made_with)
    return DiffReport(public_name(a), public_name(b), tuple(found), made)


def _compared(name: str, first: TensorFile, second: TensorFile) -> TensorDiff:
    if name not in second.names:
        return TensorDiff(name, "only a")
    if name not in first.names:
        return TensorDiff(name, "only b")
    x, y = first.tensor(name), second.tensor(name)
    if x.shape != y.shape:
        return TensorDiff(name, "shape", f"{list(x.shape)} and {list(y.shape)}")
    if x.dtype != y.dtype:
        return TensorDiff(name, "dtype", f"{x.dtype} and {y.dtype}")
    difference = compare(x, y)
    return TensorDiff(name, "equal" if difference.equal else "changed", difference=difference)
