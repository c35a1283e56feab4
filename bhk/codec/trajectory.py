"""The winding line: a dense trajectory on a square torus, walked in equal steps.

Source: Birkhoff / Hyper-Compression ("Compress Any Segment Anything Model", 2025). With n windings the trajectory
has n^2 steps. Step k = q*n + r lies on winding q at phase r:

    x = (k - h_x) * (side / n^2)        the slow coordinate grows with every step
    y = (r - h_y) * (side / n)          the fast coordinate wraps once per winding

(h_x, h_y) = ((n^2-1)/2, (n-1)/2) when the lattice is centred in its square, and (n^2/2, n/2) when it starts at the corner,
as published. All values are float32; every integer and half-integer above is exact in float32 for n <= 256.

On the corner lattice the public code takes y as the remainder of the float32 product k * pitch_y, whose rounding grows with
k. Shells multiply that by their scale, up to 4e-6, so the lattice is decoded here with the same rounding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

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
    centred: bool

    @property
    def steps(self) -> int:
        """Number of points, n^2."""
        return self.windings**2

    @cached_property
    def pitch_x(self) -> float:
        """Distance of neighbouring steps along x, a float32 value."""
        return float32(self.side / self.steps)

    @cached_property
    def pitch_y(self) -> float:
        """Distance of neighbouring phases along y, a float32 value; on the corner lattice n * pitch_x, as published."""
        return float32(self.side / self.windings if self.centred else self.pitch_x * self.windings)

    @cached_property
    def origin_x(self) -> float:
        """h_x, in steps."""
        return (self.steps - self.centred) / 2

    @cached_property
    def origin_y(self) -> float:
        """h_y, in phases."""
        return (self.windings - self.centred) / 2

    def nearest_(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Turn points into the winding and phase nearest to them, in place and in O(1) a point.

        Args:
            x, y: float32 tensors (P,), offsets from the centre; overwritten.

        Returns:
            winding and phase, as whole float32 numbers in [0, n-1], in the storage of `x` and `y`.
        """
        n = self.windings
        phase = y.mul_(n / self.side).add_(self.origin_y).round_().clamp_(0, n - 1)
        winding = x.mul_(n / self.side).add_(self.origin_x / n).add_(phase, alpha=-1 / n).round_().clamp_(0, n - 1)
        return winding, phase

    def nearest_exhaustive(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return winding and phase like `nearest_`, comparing the rows above and below as well.

        The shear by 1/n of a cell a row makes another row the nearest for about 0.7 % of the points at n = 35; the
        published encoder, which measures every pair against every point, finds them.
        """
        n = self.windings
        v = y * (n / self.side) + self.origin_y
        u = x * (n / self.side) + self.origin_x / n
        base = v.round()
        best_winding = best_phase = best_distance = None
        for row in (0, -1, 1):
            phase = (base + row).clamp_(0, n - 1)
            winding = (u - phase / n).round_().clamp_(0, n - 1)
            distance = (u - phase / n - winding).square_() + (v - phase).square_()
            if best_distance is None or best_winding is None or best_phase is None:
                best_winding, best_phase, best_distance = winding, phase, distance
                continue
            closer = distance < best_distance
            best_winding = winding.where(closer, best_winding)
            best_phase = phase.where(closer, best_phase)
            best_distance = distance.where(closer, best_distance)
        assert best_winding is not None
        assert best_phase is not None
        return best_winding, best_phase

    def points_(self, winding: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points (x, y) of float32 tensors `winding` and `phase` (P,), in their storage."""
        if self.centred:
            x = winding.mul_(self.windings).add_(phase)
            y = phase.sub_(self.origin_y).mul_(self.pitch_y)
        else:
            x = phase.add_(winding, alpha=self.windings)
            wrapped = (x * self.pitch_y).double().sub_(winding.double(), alpha=self.side)
            y = winding.copy_(wrapped).sub_(self.side / 2)
        return x.sub_(self.origin_x).mul_(self.pitch_x), y
