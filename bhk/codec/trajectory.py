"""The winding line: a dense trajectory on a square torus, walked in equal steps.

Source: Birkhoff / Hyper-Compression ("Compress Any Segment Anything Model", 2025). With n windings the trajectory
has n^2 steps. Step k = q*n + r lies on winding q at phase r:

    x = (k - h_x) * (side / n^2)        the slow coordinate grows with every step
    y = (r - h_y) * (side / n)          the fast coordinate wraps once per winding

(h_x, h_y) = ((n^2-1)/2, (n-1)/2) when the lattice is centred in its square, and (n^2/2, n/2) when it starts at the corner,
as published. All values are float32; every integer and half-integer above is exact in float32 for n <= 256.

The third lattice, the grid, has its windings parallel to an axis, so that x does not depend on r, and a point at the centre:

    x = (q - n div 2) * (side / n)          y = (r - n div 2) * (side / n)

It serves tensors with zeros. On a line that leans, x is zero at a single phase, so a pair of a zero and another weight has no
point.

On the corner lattice the public code takes y as the remainder of the float32 product k * pitch_y, whose rounding grows with
k. Shells multiply that by their scale, up to 4e-6, so the lattice is decoded here with the same rounding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Lattice = Literal["corner", "centred", "grid"]

MAX_WINDINGS = 256
# Between these sides no pitch is a denormal number, and no point of any shell leaves the range of float32.
MIN_SIDE, MAX_SIDE = 2.0**-100, 2.0**100
MAX_REACH = 2.0**120


def float32(value: float) -> float:
    """Return `value` rounded to the nearest float32 (infinity beyond its range)."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    return rounded


@dataclass(frozen=True)
class Trajectory:
    """A trajectory in a square of side `side` (weight units, a float32 value) around the origin, of `windings`^2 steps."""

    side: float
    windings: int
    lattice: Lattice = "centred"

    @property
    def steps(self) -> int:
        """Number of points, n^2."""
        return self.windings**2

    @property
    def lean(self) -> float:
        """How far a winding leans: what each phase adds to x, in lattice steps."""
        return 0.0 if self.lattice == "grid" else 1 / self.windings

    @property
    def steps_a_winding(self) -> int:
        """Distance of neighbouring windings along x, in units of `pitch_x`."""
        return 1 if self.lattice == "grid" else self.windings

    @cached_property
    def pitch_x(self) -> float:
        """Distance along x of neighbouring steps (on the grid: of neighbouring windings), a float32 value."""
        return float32(self.side / (self.windings * self.steps_a_winding))

    @cached_property
    def pitch_y(self) -> float:
        """Distance of neighbouring phases along y, a float32 value; on the corner lattice n * pitch_x, as published."""
        return float32(self.pitch_x * self.windings if self.lattice == "corner" else self.side / self.windings)

    @cached_property
    def origin_x(self) -> float:
        """h_x, in units of `pitch_x`."""
        return self._middle(self.windings * self.steps_a_winding)

    @cached_property
    def origin_y(self) -> float:
        """h_y, in phases."""
        return self._middle(self.windings)

    def _middle(self, count: int) -> float:
        return count // 2 if self.lattice == "grid" else (count - (self.lattice == "centred")) / 2

    def nearest_(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Turn points into the winding and phase nearest to them, in place and in O(1) a point.

        Args:
            x, y: float32 tensors (P,), offsets from the centre; overwritten.

        Returns:
            winding and phase, as whole float32 numbers in [0, n-1], in the storage of `x` and `y`.
        """
        phase = self.nearest_phase_(y)
        return self.nearest_winding_(x, phase), phase

    def nearest_phase_(self, y: Tensor) -> Tensor:
        """Turn fast coordinates y, a float32 tensor (P,), into the phases nearest to them, in place."""
        n = self.windings
        return y.mul_(n / self.side).add_(self.origin_y).round_().clamp_(0, n - 1)

    def nearest_winding_(self, x: Tensor, phase: Tensor) -> Tensor:
        """Turn slow coordinates x, a float32 tensor (P,), into the windings nearest to them at `phase`, in place."""
        n = self.windings
        x.mul_(n / self.side).add_(self.origin_x / self.steps_a_winding)
        if self.lean:
            x.add_(phase, alpha=-self.lean)
        return x.round_().clamp_(0, n - 1)

    def nearest_exhaustive(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return winding and phase like `nearest_`, but nearest for certain, and leave `x` and `y` alone; not for the grid.

        The shear by 1/n of a cell a row makes a neighbouring row the nearest for about 0.7 % of the points at n = 35; the
        published encoder, which measures every pair against every point, finds them. They lie within 1/n of half-way
        between two rows, or beyond the ends of their row.
        """
        n = self.windings
        u = x * (n / self.side) + self.origin_x / n
        v = y * (n / self.side) + self.origin_y
        winding, phase = self.nearest_(x.clone(), y.clone())
        halfway = (v - phase).abs_() > 0.5 - 1 / n
        doubtful = (halfway | ((u - winding - phase / n).abs_() > 0.5)).nonzero().view(-1)
        u, v = u[doubtful], v[doubtful]
        rows = (v.round() + v.new_tensor([[0.0], [-1.0], [1.0]])).clamp_(0, n - 1)
        columns = (u - rows / n).round_().clamp_(0, n - 1)
        distances = (u - rows / n - columns).square_() + (v - rows).square_()
        best = distances.argmin(dim=0, keepdim=True)
        winding[doubtful] = columns.gather(0, best)[0]
        phase[doubtful] = rows.gather(0, best)[0]
        return winding, phase

    def points_(self, winding: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points (x, y) of float32 tensors `winding` and `phase` (P,), in their storage."""
        if self.lattice != "corner":
            x = winding.mul_(self.windings).add_(phase) if self.lean else winding
            y = phase.sub_(self.origin_y).mul_(self.pitch_y)
        else:
            x = phase.add_(winding, alpha=self.windings)
            wrapped = (x * self.pitch_y).double().sub_(winding.double(), alpha=self.side)
            y = winding.copy_(wrapped).sub_(self.side / 2)
        return x.sub_(self.origin_x).mul_(self.pitch_x), y

    def points(
        self, winding: npt.NDArray[np.uint8], phase: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the points (x, y) of `winding` and `phase` (P,) as numpy arrays, with the bits of `points_`."""
        q, r = winding.astype(np.float32), phase.astype(np.float32)
        steps = q * np.float32(self.windings) + r if self.lean else q
        if self.lattice != "corner":
            y = (r - np.float32(self.origin_y)) * np.float32(self.pitch_y)
        else:
            wrapped = (steps * np.float32(self.pitch_y)).astype(np.float64) - winding.astype(np.float64) * self.side
            y = wrapped.astype(np.float32) - np.float32(self.side / 2)
        return (steps - np.float32(self.origin_x)) * np.float32(self.pitch_x), y
