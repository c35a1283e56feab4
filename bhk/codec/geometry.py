"""Where the points of a codebook lie, in numpy: what reading a file needs, so that it works without torch.

`bhk.codec.codebook` finds codes for weights and decodes them on any device, with torch. Both give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bhk.codec.elements import rounded
from bhk.codec.streams import Window
from bhk.codec.trajectory import Lattice, Trajectory, float32

Plane = npt.NDArray[np.uint8]

# Pairs per block of work. Large enough that two Python threads do not wait for each other between operations, small enough
# that the indices of a block stay in the last-level cache.
BLOCK_PAIRS = 1 << 17

# One number that holds a pair of elements, by the size of the pair in bytes.
_PAIR_TYPES: dict[int, type[np.generic]] = {4: np.uint32, 8: np.uint64, 16: np.complex128}


@dataclass(frozen=True, eq=False)
class Planes:
    """The codes of P pairs as byte planes: uint8 arrays (P,); `shell` is None if the codebook has no shells."""

    winding: Plane
    phase: Plane
    shell: Plane | None = None

    def __len__(self) -> int:
        return len(self.winding)

    def __getitem__(self, which: slice | npt.NDArray[np.intp]) -> Planes:
        """Return the codes of some of the pairs."""
        return Planes(self.winding[which], self.phase[which], None if self.shell is None else self.shell[which])

    @classmethod
    def from_scalars(cls, codes: npt.NDArray[np.integer[Any]], windings: int, shells: int) -> Planes:
        """Split scalar codes (P,) into planes."""
        shell, step = np.divmod(codes, windings**2)
        winding, phase = np.divmod(step, windings)
        return cls(winding.astype(np.uint8), phase.astype(np.uint8), shell.astype(np.uint8) if shells else None)


@dataclass(frozen=True, eq=False)
class ByteCodes:
    """The codes of P pairs as bytes within a window: uint8 arrays (P,); `shell` is None if the codebook has no shells."""

    data: Plane
    window: Window
    shell: Plane | None = None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, which: slice | npt.NDArray[np.intp]) -> ByteCodes:
        """Return the codes of some of the pairs."""
        return ByteCodes(self.data[which], self.window, None if self.shell is None else self.shell[which])

    def planes(self) -> Planes:
        """Return the same codes as planes."""
        return Planes(*self.window.planes(self.data), self.shell)


@dataclass(frozen=True)
class Geometry:
    """What a decoder needs besides the codes. All floats are finite float32 values in weight units.

    Attributes:
        centre: (cx, cy), the point that the square surrounds.
        side: side of the square.
        windings: n, windings of the trajectory, 1 ... 256.
        shells: K, number of shells around the square, 0 ... 255.
        spacing: distance between shells; 0 without shells.
        lattice: where the steps lie in the square: "centred", "corner" (as published) or "grid"; see `bhk.codec.trajectory`.
    """

    centre: tuple[float, float]
    side: float
    windings: int
    shells: int = 0
    spacing: float = 0.0
    lattice: Lattice = "centred"

    @cached_property
    def trajectory(self) -> Trajectory:
        """The trajectory inside the square."""
        return Trajectory(self.side, self.windings, self.lattice)

    @property
    def step(self) -> float:
        """Lattice step in weight units; the mean squared error per weight is about step^2 / 12."""
        return self.side / self.windings

    @property
    def code_count(self) -> int:
        """Number of distinct codes, (K + 1) * n^2."""
        return (self.shells + 1) * self.windings**2

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Scale of shells 0 ... K, float32 values: scale(c) = (side/2 + c*spacing) / (side/2), each step in float32."""
        half = float32(self.side / 2)
        return tuple(float32(float32(half + float32(c * self.spacing)) / half) for c in range(self.shells + 1))

    def points(self, planes: Planes) -> npt.NDArray[np.float32]:
        """Return the pairs at `planes`, a float32 array (P, 2), bit for bit as the format defines them."""
        x, y = self.trajectory.points(planes.winding, planes.phase)
        pairs = np.stack((x, y), axis=1)
        if planes.shell is not None:
            pairs *= np.asarray(self.scales, dtype=np.float32)[planes.shell, np.newaxis]
        pairs += np.asarray(self.centre, dtype=np.float32)
        return pairs


class Decoder:
    """Decodes pairs into the elements of one dtype.

    A tensor with more pairs than there are steps (of the trajectory, or of the window of bytes) looks its pairs up in a table
    of all steps, which takes a third of the time of computing each, and as long for any dtype. The few outliers are computed.

    Args:
        geometry: the codebook.
        dtype: the format's name of the dtype.
        count: how many pairs there are to decode, about.
        window: that of the codes, if they are bytes.
    """

    def __init__(self, geometry: Geometry, dtype: str, count: int, window: Window | None = None) -> None:
        self._geometry, self._dtype, self._table = geometry, dtype, None
        size = geometry.windings**2 if window is None else window.steps(geometry.windings)
        if count > size:
            if window is None:
                steps = Planes.from_scalars(np.arange(size), geometry.windings, 0)
            else:
                steps = Planes(*window.planes(np.arange(size, dtype=np.uint8)))
            self._table = _as_one(rounded(geometry.points(steps), dtype))
            self._indices = np.empty(min(count, BLOCK_PAIRS), dtype=np.intp)

    def decode_into(self, codes: Planes | ByteCodes, pairs: npt.NDArray[Any]) -> None:
        """Decode into `pairs`, a contiguous array (P, 2) of the type that `rounded` returns."""
        if self._table is None:
            self._compute(codes, pairs)
            return
        for start in range(0, len(codes), BLOCK_PAIRS):
            self._look_up(self._table, codes[start : start + BLOCK_PAIRS], pairs[start : start + BLOCK_PAIRS])

    def _compute(self, codes: Planes | ByteCodes, pairs: npt.NDArray[Any]) -> None:
        planes = codes.planes() if isinstance(codes, ByteCodes) else codes
        pairs[:] = rounded(self._geometry.points(planes), self._dtype)

    def _look_up(self, table: npt.NDArray[Any], codes: Planes | ByteCodes, pairs: npt.NDArray[Any]) -> None:
        indices = self._indices[: len(codes)]
        if isinstance(codes, ByteCodes):
            indices[:] = codes.data
        else:
            np.multiply(codes.winding, np.intp(self._geometry.windings), out=indices, dtype=np.intp)
            indices += codes.phase
        table.take(indices, out=_as_one(pairs), mode="clip")  # the mode "raise" would copy the result
        if codes.shell is not None:
            outliers = codes.shell.nonzero()[0]
            if len(outliers):
                computed = np.empty((len(outliers), 2), dtype=pairs.dtype)
                self._compute(codes[outliers], computed)
                pairs[outliers] = computed


def _as_one(pairs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return contiguous pairs (P, 2) as P single numbers that share their memory."""
    return pairs.view(_PAIR_TYPES[2 * pairs.itemsize])[:, 0]
