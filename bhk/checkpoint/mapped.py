"""Files that tensors are mapped from, read so that a change of the file is noticed and does no harm.

The system ends a process (SIGBUS) that touches a mapped page beyond the end of a file which another program has cut, as a
training run does that saves over its last checkpoint. So mapped tensors only serve for their shapes and dtypes, and their
values are read from the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from bhk.base.files import ReadError, Stamp, reading

_MAPS = Path("/proc/self/maps")  # Linux
_REGION = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+ +(/.*)")


class ChangedError(ReadError):
    """A file was changed, cut or replaced while it was read."""


@dataclass(frozen=True)
class _Region:
    """Addresses `begin` ... `end` - 1 hold the bytes of a file from `offset` on."""

    begin: int
    end: int
    offset: int


@dataclass(frozen=True)
class MappedFile:
    """A file as it was when it was opened.

    Attributes:
        path: where it is.
        stamp: what tells that it was changed.
        regions: where it is mapped.
    """

    path: Path
    stamp: Stamp
    regions: tuple[_Region, ...] = ()

    @classmethod
    def before_reading(cls, path: Path) -> MappedFile:
        """Return the file at `path`, which is not mapped yet.

        Raises:
            ReadError: the system cannot read it.
        """
        with reading(path):
            return cls(path, Stamp.of(path))

    def mapped(self) -> MappedFile:
        """Return the file with the places where it is mapped now; none on systems that do not tell.

        Raises:
            ChangedError: it was changed.
        """
        self.check()
        try:
            lines = _MAPS.read_text("utf-8", "surrogateescape").splitlines()
        except OSError:
            return self
        name = str(self.path.resolve())
        found = (match for line in lines if (match := _REGION.fullmatch(line)) and match[4] == name)
        return MappedFile(
            self.path, self.stamp, tuple(_Region(*(int(match[at], 16) for at in (1, 2, 3))) for match in found)
        )

    def check(self) -> None:
        """Check that the file is as it was.

        Raises:
            ChangedError: it was changed, cut, replaced or removed.
        """
        try:
            same = Stamp.of(self.path) == self.stamp
        except OSError:
            same = False
        if not same:
            raise ChangedError(f"{self.path} was changed in the meantime; try again when nothing writes to it")

    def read(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a tensor with values of its own, read from the file; None if `tensor` is not mapped from it.

        Raises:
            ReadError: the system cannot read the file.
            ChangedError: the file was changed.
        """
        address = tensor.data_ptr()
        region = next((region for region in self.regions if region.begin <= address < region.end), None)
        if region is None:
            return None
        span = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        data = torch.empty(span * tensor.element_size(), dtype=torch.uint8)
        rest = data.numpy().data
        with reading(self.path), open(self.path, "rb", buffering=0) as file:
            file.seek(region.offset + address - region.begin)
            while rest and (count := file.readinto(rest)):
                rest = rest[count:]
        self.check()
        return data.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
