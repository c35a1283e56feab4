"""The codebook of one tensor: where its trajectory lies, and pairs of weights <-> codes.

A pair inside the square around the centre belongs to shell 0. A pair outside it (an outlier) belongs to shell
c = 1 ... K by its distance from the centre; there the same lattice is scale(c) times coarser. The scalar code of a pair is
c*n^2 + q*n + r with winding q and phase r.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bhk.codec.geometry import Geometry
from bhk.codec.trajectory import MAX_REACH, MAX_SIDE, MIN_SIDE, float32

# Pairs per block of work. Large enough that two Python threads do not wait for each other between operations (at 2^15
# they ran no faster than one), small enough that the scratch tensors stay in the last-level cache. Scratch is allocated once
# a tensor and reused: fresh memory for each block costs page faults, on which threads wait for each other.
BLOCK_PAIRS = 1 << 17


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of P pairs as byte planes: uint8 tensors (P,); `shell` is None if the codebook has no shells."""

    winding: Tensor
    phase: Tensor
    shell: Tensor | None = None

    def __len__(self) -> int:
        return self.winding.numel()

    def scalars(self, windings: int) -> Tensor:
        """Return the scalar codes c*n^2 + q*n + r, an int32 tensor (P,)."""
        codes = self.winding.to(torch.int32).mul_(windings).add_(self.phase)
        if self.shell is not None:
            codes.add_(self.shell, alpha=windings**2)
        return codes

    @classmethod
    def from_scalars(cls, codes: Tensor, windings: int, shells: int) -> Codes:
        """Split scalar codes, an integer tensor (P,), into planes."""
        shell = (codes // windings**2).to(torch.uint8) if shells else None
        step = codes % windings**2
        return cls((step // windings).to(torch.uint8), (step % windings).to(torch.uint8), shell)


@dataclass(frozen=True)
class Codebook(Geometry):
    """A codebook as torch uses it: the geometry, and how weights get their codes and codes their weights.

    All floats are finite float32 values in weight units.

    Attributes:
        centre: (cx, cy), the point that the square surrounds.
        side: side of the square.
        windings: n, windings of the trajectory, 1 ... 256.
        shells: K, number of shells around the square, 0 ... 255.
        spacing: distance between shells; 0 without shells.
        lattice: where the steps lie in the square: "centred", "corner" (as published) or "grid"; see `bhk.codec.trajectory`.
    """

    @property
    def is_valid(self) -> bool:
        """Tell whether the format allows this codebook; only then do all its codes decode to finite float32 values."""
        reaches = (*self.centre, self.shells * self.spacing)  # not max() of them: it may pass over NaN
        within = MIN_SIDE <= self.side <= MAX_SIDE and all(abs(reach) <= MAX_REACH for reach in reaches)
        return within and math.isfinite(self.scales[-1])

    @property
    def has_zero(self) -> bool:
        """Tell whether a weight of zero has a point of its own in the square and in every shell."""
        return self.lattice == "grid" and self.centre == (0.0, 0.0)

    def with_shells(self, shells: int, farthest: float) -> Codebook:
        """Return this codebook with `shells` shells that reach out to distance `farthest` from the centre."""
        if not shells:
            return replace(self, shells=0, spacing=0.0)
        return replace(self, shells=shells, spacing=float32((farthest - self.side / 2) / shells))

    def blocks(self, count: int) -> Iterator[slice]:
        """Split `count` pairs into slices of BLOCK_PAIRS."""
        return (slice(start, min(start + BLOCK_PAIRS, count)) for start in range(0, count, BLOCK_PAIRS))

    def encode_square(self, pairs: Tensor, *, exhaustive: bool = False) -> tuple[Codes, Tensor]:
        """Code every pair on the square's lattice, clamping those outside.

        Args:
            pairs: floating tensor (P, 2).
            exhaustive: find the nearest point for certain (see `Trajectory.nearest_exhaustive`).

        Returns:
            the codes (without shells) and the indices of the pairs outside the square, an int64 tensor.
        """
        count, half = len(pairs), self.side / 2
        winding = torch.empty(count, dtype=torch.uint8, device=pairs.device)
        phase = torch.empty_like(winding)
        scratch = torch.empty(4, min(count, BLOCK_PAIRS), dtype=torch.float32, device=pairs.device)
        outside = [torch.empty(0, dtype=torch.int64, device=pairs.device)]
        for block in self.blocks(count):
            x, y, far, other = scratch[:, : block.stop - block.start]
            self._offsets(pairs[block], x, y)
            torch.maximum(torch.abs(x, out=far), torch.abs(y, out=other), out=far)
            outside.append(_where_above(far, half) + block.start)
            q, r = self.trajectory.nearest_exhaustive(x, y) if exhaustive else self.trajectory.nearest_(x, y)
            winding[block] = q
            phase[block] = r
        return Codes(winding, phase), torch.cat(outside)

    def encode_shells(self, outliers: Tensor, *, exhaustive: bool = False) -> Codes:
        """Code pairs outside the square, a floating-point tensor (P, 2), each in the shell of its distance."""
        x, y = torch.empty(2, len(outliers), dtype=torch.float32, device=outliers.device)
        self._offsets(outliers, x, y)
        shell = self.shell_of(x, y)
        scale = torch.tensor(self.scales, dtype=torch.float32, device=x.device)[shell.long()]
        x.div_(scale)
        y.div_(scale)
        q, r = self.trajectory.nearest_exhaustive(x, y) if exhaustive else self.trajectory.nearest_(x, y)
        return Codes(q.to(torch.uint8), r.to(torch.uint8), shell)

    def shell_of(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the shell of pairs outside the square by their distance from the centre, uint8 (P,).

        Args:
            x, y: offsets from the centre, float32 (P,).
        """
        ring = (torch.hypot(x, y) - self.side / 2) / self.spacing
        return ring.ceil_().clamp_(1, self.shells).to(torch.uint8)

    def decode(self, codes: Codes) -> Tensor:
        """Return the pairs of `codes`, a float32 tensor (P, 2), bit for bit as the format defines them."""
        pairs = torch.empty(len(codes), 2, dtype=torch.float32, device=codes.winding.device)
        self.decode_into(codes, pairs)
        return pairs

    def decode_into(self, codes: Codes, pairs: Tensor) -> None:
        """Decode into `pairs`, a floating-point tensor (P, 2); values are rounded from float32."""
        scratch = self.scratch(codes)
        for block in self.blocks(len(codes)):
            self.decode_block(codes, block, pairs[block], scratch)

    def scratch(self, codes: Codes) -> Tensor:
        """Return the scratch memory that `decode_block` needs for `codes`."""
        return torch.empty(2, min(len(codes), BLOCK_PAIRS), dtype=torch.float32, device=codes.winding.device)

    def decode_block(self, codes: Codes, block: slice, out: Tensor, scratch: Tensor) -> None:
        """Decode the codes in `block`, at most BLOCK_PAIRS, into `out`, a floating tensor (P, 2)."""
        x, y = scratch[:, : block.stop - block.start]
        x.copy_(codes.winding[block])
        y.copy_(codes.phase[block])
        self.place_(x, y, None if codes.shell is None else codes.shell[block], out)

    def place_(self, winding: Tensor, phase: Tensor, shell: Tensor | None, out: Tensor) -> None:
        """Write the pairs at float32 `winding` and `phase` (P,), whose storage is used up, to `out`, a floating tensor (P, 2).

        Args:
            shell: integer tensor (P,), or None where all lie in shell 0.
        """
        x, y = self.trajectory.points_(winding, phase)
        if shell is not None:
            outer = _where_above(shell, 0)
            if outer.numel():
                scale = torch.tensor(self.scales, dtype=torch.float32, device=x.device)[shell[outer].long()]
                x[outer] *= scale
                y[outer] *= scale
        x.add_(self.centre[0])
        y.add_(self.centre[1])
        if out.dtype == torch.float32:  # interleaves three times as fast as two strided copies
            torch.complex(x, y, out=torch.view_as_complex(out))
        else:
            out[:, 0] = x
            out[:, 1] = y

    def _offsets(self, pairs: Tensor, x: Tensor, y: Tensor) -> None:
        """Put the coordinates of `pairs` relative to the centre into the float32 tensors `x` and `y` (P,)."""
        x.copy_(pairs[:, 0]).sub_(self.centre[0])
        y.copy_(pairs[:, 1]).sub_(self.centre[1])


def _where_above(values: Tensor, limit: float) -> Tensor:
    """Return the indices, in no particular order, at which `values` (P,) exceed `limit`, which few do: int64 (k,).

    Columns of 32 are searched only where their maximum is above: torch's nonzero takes 3 ns an element, its maximum 0.1 ns.
    """
    width = len(values) // 32
    columns = values[: 32 * width].view(32, width)
    hit = (columns.amax(dim=0) > limit).nonzero().view(-1)
    row, which = (columns[:, hit] > limit).nonzero(as_tuple=True)
    rest = (values[32 * width :] > limit).nonzero().view(-1)
    return torch.cat([row * width + hit[which], rest + 32 * width])
