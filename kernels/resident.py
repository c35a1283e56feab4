"""How a coded weight is held in memory, and the identity that turns its product into one of small integers.

A pair of weights inside the square is, with the signed integers Q = winding - n//2 and R = phase - n//2,

    w_even = step * (Q + R/n) + offset_even        w_odd = step * R + offset_odd

So the product with a row x of activations is, with u = x_even and v = x_odd + x_even/n,

    x @ W.T = step * (u @ Q.T + v @ R.T) + offset_even * sum(x_even) + offset_odd * sum(x_odd)

The windings of a grid do not lean, so 1/n is 0 there.

A *lattice* weight keeps Q and R, one byte each, side by side. Its few pairs in shells ("outliers") are kept decoded as well;
their bytes hold the nearest Q and R that fit. A *scalar* weight keeps the scalar codes in 16 or 32 bits. It serves all other
codebooks: the published lattice, whose rounding the identity does not reproduce, and weights with many pairs in shells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import MAX_WINDINGS, Lattice

# The largest share of outliers for which a list of them pays, by the bits of the scalar codes that would replace it. An outlier
# takes 96 bits. Against 16-bit scalar codes (8 bits a weight) the list may cost a quarter of a bit a weight more, because
# products are faster; against 32-bit codes it must be smaller.
MAX_OUTLIERS = {16: 1 / 200, 32: 1 / 8}
# With more outliers beyond the reach of int8 than this, correcting an integer product takes longer than the product saves.
MAX_FAR = 256
# Up to this many bytes a row the 32-bit sums of an integer product cannot overflow, even with unsigned activations (on a CPU).
MAX_INTEGER_WIDTH = (1 << 31) // (255 * 128)
# Rows of a weight that share an entry of `outlier_starts`; the tiles of the kernels are multiples of it.
ROWS_PER_START = 16
# Fields of the tensor `codebook`, in order.
FIELDS = ("centre_even", "centre_odd", "side", "windings", "shells", "spacing", "lattice")
# The numbers that stand for lattices in that tensor.
LATTICES: tuple[Lattice, ...] = ("corner", "centred", "grid")


@dataclass(frozen=True, eq=False)
class Resident:
    """A coded weight (out, in) with h = ceil(in / 2) pairs a row, as the operators take it.

    Attributes:
        codes: for a lattice weight, int8 (out, 2*h): Q of a row, then R of the row. For a scalar weight, the scalar codes
            as int16 (holding unsigned values) or int32 (out, h).
        codebook: float32 (7,) in the order of `FIELDS`.
        outliers: int32 (E, 3): a pair's index row*h + column, ascending, and the bits of its two decoded float32 weights.
        outlier_starts: int32 (ceil(out/16) + 1,): where in `outliers` each 16 rows begin; the last entry is E.
        far: int32 (F,): positions in `outliers` of those that are more than one step away from the nearest Q and R.
    """

    codes: Tensor
    codebook: Tensor
    outliers: Tensor
    outlier_starts: Tensor
    far: Tensor


def make_resident(codebook: Codebook, codes: Codes, out_features: int, in_features: int) -> Resident:
    """Return the weight (out_features, in_features) of `codes`, which are paired row by row, on their device."""
    device = codes.winding.device
    lattice = LATTICES.index(codebook.lattice)
    fields = (*codebook.centre, codebook.side, codebook.windings, codebook.shells, codebook.spacing, lattice)
    table = torch.tensor(fields, dtype=torch.float32, device=device)
    shell = codes.shell
    outer = torch.empty(0, dtype=torch.int64, device=device) if shell is None else shell.nonzero().view(-1)
    shape = out_features, (in_features + 1) // 2
    # Indices of pairs fit 32 bits: no linear layer has 2^32 weights.
    if codebook.lattice != "corner" and len(outer) <= MAX_OUTLIERS[_scalar_bits(codebook)] * len(codes):
        return _lattice(codebook, table, codes, outer, shape)
    return _scalar(codebook, table, codes, shape)


def _lattice(codebook: Codebook, table: Tensor, codes: Codes, outer: Tensor, shape: tuple[int, int]) -> Resident:
    """Hold `codes` of (rows, pairs) as bytes, and the pairs `outer` (E,), which are in shells, decoded as well."""
    rows, pairs = shape
    half = codebook.windings // 2
    planes = torch.empty(rows, 2, pairs, dtype=torch.int8, device=outer.device)
    for place, plane in enumerate((codes.winding, codes.phase)):
        planes[:, place] = plane.view(shape).to(torch.int16).sub_(half)
    shell = None if codes.shell is None else codes.shell[outer]
    weights = codebook.decode(Codes(codes.winding[outer], codes.phase[outer], shell))
    integers, is_far = _nearest_integers(codebook, weights)
    planes.view(-1)[_places(outer, pairs)] = integers.t()
    outliers = torch.cat([outer.to(torch.int32)[:, None], weights.view(torch.int32)], dim=1)
    far = is_far.nonzero().view(-1).to(torch.int32)
    return Resident(planes.view(rows, 2 * pairs), table, outliers, _outlier_starts(outliers, shape), far)


def _scalar(codebook: Codebook, table: Tensor, codes: Codes, shape: tuple[int, int]) -> Resident:
    """Hold `codes` of (rows, pairs) as scalars."""
    scalars = codes.scalars(codebook.windings).view(shape)
    if _scalar_bits(codebook) == 16:
        scalars = scalars.to(torch.int16)
    none = torch.empty(0, 3, dtype=torch.int32, device=scalars.device)
    return Resident(scalars, table, none, _outlier_starts(none, shape), none[:, 0])


def _scalar_bits(codebook: Codebook) -> int:
    """Return the bits of the integers that hold the scalar codes."""
    return 16 if codebook.code_count <= 1 << 16 else 32


def codebook_of(codebook: Tensor) -> Codebook:
    """Return the codebook that the tensor `codebook` holds. This waits for the tensor's device."""
    return _codebook(*codebook.tolist())


@lru_cache(maxsize=4096)
def _codebook(*fields: float) -> Codebook:
    centre_even, centre_odd, side, windings, shells, spacing, lattice = fields
    return Codebook((centre_even, centre_odd), side, int(windings), int(shells), spacing, LATTICES[int(lattice)])


def find_fault(held: Resident, out_features: int, in_features: int) -> str | None:
    """Return what is wrong with a weight from an untrusted state dict, or None. The kernels themselves check nothing."""
    pairs = (in_features + 1) // 2
    forms = {torch.int8: 2 * pairs, torch.int16: pairs, torch.int32: pairs}
    if tuple(held.codes.shape) != (out_features, forms.get(held.codes.dtype)):
        return f"codes of shape {tuple(held.codes.shape)} and {held.codes.dtype}"
    if held.codebook.shape != (len(FIELDS),) or held.outliers.shape[1:] != (3,) or held.far.ndim != 1:
        return "a codebook or outliers of another shape"
    if held.codebook[-1].item() not in range(len(LATTICES)):
        return "a codebook of another lattice"
    book = codebook_of(held.codebook.float())
    if not (1 <= book.windings <= MAX_WINDINGS and 0 <= book.shells <= 255 and book.is_valid):
        return f"a codebook that the format does not allow, {book}"
    index = held.outliers[:, 0]
    if len(index) and (int(index[0]) < 0 or int(index[-1]) >= out_features * pairs or bool((index.diff() <= 0).any())):
        return "outliers out of order or out of bounds"
    if len(held.far) and not 0 <= int(held.far.min()) <= int(held.far.max()) < len(index):
        return "far outliers that do not exist"
    if not torch.equal(held.outlier_starts, _outlier_starts(held.outliers, (out_features, pairs))):
        return "outlier_starts that do not fit the outliers"
    return None


@lru_cache(maxsize=4096)
def step_and_offsets(codebook: Codebook) -> tuple[float, float, float]:
    """Return step, offset_even and offset_odd of the identity above, for a codebook that is centred or a grid."""
    line, half = codebook.trajectory, codebook.windings // 2
    steps = half * codebook.windings + half if line.lean else half
    even = (steps - line.origin_x) * line.pitch_x + codebook.centre[0]
    return line.pitch_y, even, (half - line.origin_y) * line.pitch_y + codebook.centre[1]


def sheared(codebook: Codebook, weights: Tensor) -> Tensor:
    """Return the real numbers in place of Q and R for which the identity gives `weights` (P, 2): float32 (P, 2)."""
    shift, matrix = _shear_map(codebook, weights.device)
    return torch.addmm(shift, weights, matrix)


@lru_cache(maxsize=4096)
def _shear_map(codebook: Codebook, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return shift (2,) and matrix (2, 2) of the affine map from pairs of weights to Q and R."""
    step, even, odd = step_and_offsets(codebook)
    lean = codebook.trajectory.lean
    shift = [(odd * lean - even) / step, -odd / step]
    matrix = [[1 / step, 0.0], [-lean / step, 1 / step]]
    return (
        torch.tensor(shift, dtype=torch.float32, device=device),
        torch.tensor(matrix, dtype=torch.float32, device=device),
    )


def _nearest_integers(codebook: Codebook, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bytes (Q, R) nearest to pairs of weights (P, 2), int8 (P, 2), and which pairs are over a step away."""
    exact = sheared(codebook, weights)
    phase = exact[:, 1].round().clamp_(-128, 127)
    winding = (exact[:, 0] + (exact[:, 1] - phase) * codebook.trajectory.lean).round().clamp_(-128, 127)
    nearest = torch.stack([winding, phase], dim=1)
    return nearest.to(torch.int8), ((exact - nearest).abs() > 1).any(dim=1)


def _places(pairs: Tensor, row_pairs: int) -> Tensor:
    """Return the positions of Q and R of `pairs` (P,) in the flattened lattice planes (out, 2, h): int64 (2, P)."""
    winding = pairs + pairs // row_pairs * row_pairs
    return torch.stack([winding, winding + row_pairs])


def _outlier_starts(outliers: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return where in `outliers` each `ROWS_PER_START` rows of (rows, pairs) begin, and the number of outliers."""
    rows, pairs = shape
    starts = torch.arange(math.ceil(rows / ROWS_PER_START) + 1, device=outliers.device) * (ROWS_PER_START * pairs)
    return torch.searchsorted(outliers[:, 0].to(torch.int64), starts).to(torch.int32)
