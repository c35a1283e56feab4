"""Parts of long work that a cluster starts by itself: Slurm arrays, torchrun, or any shell."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bhk.base.errors import OptionError, option

_SLURM = "SLURM_ARRAY_TASK_"


class PartError(OptionError):
    """A part is not of the form "2/8", or cannot be told from the environment."""


@dataclass(frozen=True)
class Part:
    """One of several equal parts of long work, which separate processes compute, perhaps on separate machines.

    >>> import bhk
    >>> bhk.Part.parse("2/8")
    Part(number=2, count=8)
    >>> bhk.Part(2, 8).share(100)
    range(12, 25)

    Attributes:
        number: 1 … `count`.
        count: number of parts.

    Raises:
        PartError: the number is out of this range.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise PartError(f"there is no part {self}; the first of 8 is 1/8, and the last 8/8")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Part:
        """Return the part that "2/8" names.

        Raises:
            PartError: the text has another form.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if found is None:
            raise PartError(f"{text!r} is not a part; expected one such as 2/8, the second of eight")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, index: int, shards: int, count: int) -> Part:
        """Return the part of `count` that holds the shard `index` of `shards`."""
        return next(part for number in range(1, count + 1) if index in (part := cls(number, count)).share(shards))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] | None = None) -> Part | None:
        """Return the part that a Slurm array or torchrun gives to this process; None if neither runs it.

        If both do, each task of the array is divided among the processes of torchrun.

        >>> bhk.Part.of_environment({"RANK": "1", "WORLD_SIZE": "8"})
        Part(number=2, count=8)

        Args:
            environment: the variables to look at; None for those of this process.

        Raises:
            PartError: the variables do not tell which part.
        """
        variables = os.environ if environment is None else environment
        found = [part for part in (_of_slurm(variables), _of_torchrun(variables)) if part is not None]
        index, count = 0, 1
        for part in found:
            index, count = index * part.count + part.number - 1, count * part.count
        return cls(index + 1, count) if count > 1 else None

    def share(self, shards: int) -> range:
        """Return the indices of this part's shards. They are neighbours, so that a part reads few archives."""
        return range((self.number - 1) * shards // self.count, self.number * shards // self.count)


def _of_slurm(environment: Mapping[str, str]) -> Part | None:
    """Return the part of a Slurm array, whose tasks may start at any number and have gaps of equal size."""
    if f"{_SLURM}ID" not in environment:
        return None
    here, count, first, last, step = (
        _number(environment, f"{_SLURM}{name}", default)
        for name, default in (("ID", None), ("COUNT", None), ("MIN", None), ("MAX", None), ("STEP", 1))
    )
    if step < 1 or last - first != (count - 1) * step or (here - first) % step or not first <= here <= last:
        raise PartError(
            f"the tasks of this Slurm array ({count} from {first} to {last}) do not follow each other in equal steps; "
            f"say which part this is with {option('part', '2/8')}"
        )
    return Part((here - first) // step + 1, count)


def _of_torchrun(environment: Mapping[str, str]) -> Part | None:
    if not {"RANK", "WORLD_SIZE"} <= environment.keys():
        return None
    rank, size = (_number(environment, name) for name in ("RANK", "WORLD_SIZE"))
    if not 0 <= rank < size:
        raise PartError(f"RANK is {rank} and WORLD_SIZE {size}; say which part this is with {option('part', '2/8')}")
    return Part(rank + 1, size)


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise PartError(
            f"the variable {name} is {text!r}, not a number; say which part this is with {option('part', '2/8')}"
        )
    return int(text)
