"""How a coded weight is held in memory.

Inside the square a pair of weights is, with the signed integers Q = winding - n//2 and R = phase - n//2,

    w_even = step * (Q + R/n) + offset_even        w_odd = step * R + offset_odd

A *lattice* weight keeps Q and R, a byte each, side by side, so that a product with it is a product with small integers. Of
pairs in shells, which are few, it keeps the decoded weights beside that ("outliers"); their place among the integers holds
the nearest ones that fit. A *scalar* weight keeps the scalar codes in 16 or 32 bits and serves every other codebook: the
published lattice, whose rounding the identity above does not reproduce, and weights with many pairs in shells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.trajectory import MAX_WINDINGS

# The share of pairs in shells up to which a list of them pays: an outlier takes 96 bits. Beside scalar codes of 16 bits (8 bits
# a weight) it may cost a quarter of a bit a weight; those of 32 bits it has to undercut.
MAX_OUTLIERS = {16: 1 / 200, 32: 1 / 8}
# More outliers than this that no int8 reaches, and integer products with the weight are not worth their correction.
MAX_FAR = 256
# Bytes a row up to which the 32-bit sums of an integer product cannot overflow, of unsigned activations (on a CPU) either.
MAX_INTEGER_WIDTH = (1 << 31) // (255 * 128)
# Rows of a weight that share an entry of `tiles`; the tiles of the kernels are multiples of it.
TILE_ROWS = 16
# Fields of the tensor `codebook`, in order.
FIELDS = ("centre_even", "centre_odd", "side", "windings", "shells", "spacing", "centred")


@dataclass(frozen=True, eq=False)
class Resident:
    """A coded weight (out, in) with h = ceil(in / 2) pairs a row, as the operators take it.

    Attributes:
        codes: int8 (out, 2*h), row by row Q and then R, for a lattice weight; int16 (holding unsigned values) or int32
            (out, h), scalar codes, for a scalar weight.
        codebook: float32 (7,), see `FIELDS`.
        outliers: int32 (E, 3): index of a pair (row*h + column, ascending) and the bits of its two decoded float32 weights.
        tiles: int32 (ceil(out/16) + 1,): where in `outliers` each 16 rows begin, and their number.
        far: int32 (F,): places in `outliers` of those whose integers do not fit a byte.
    """

    codes: Tensor
    codebook: Tensor
    outliers: Tensor
    tiles: Tensor
    far: Tensor


def make_resident(codebook: Codebook, codes: Codes, out_features: int, in_features: int) -> Resident:
    """Return the weight (out_features, in_features) that `codes`, paired row by row, stand for, on their device."""
    device = codes.winding.device
    fields = (*codebook.centre, codebook.side, codebook.windings, codebook.shells, codebook.spacing, codebook.centred)
    table = torch.tensor(fields, dtype=torch.float32, device=device)
    shell = codes.shell
    outer = torch.empty(0, dtype=torch.int64, device=device) if shell is None else shell.nonzero().view(-1)
    shape = out_features, (in_features + 1) // 2
    # The place of a pair fits 32 bits: a weight of 2^32 elements is no weight of a linear layer.
    if codebook.centred and len(outer) <= MAX_OUTLIERS[_scalar_bits(codebook)] * len(codes):
        return _lattice(codebook, table, codes, outer, shape)
    return _scalar(codebook, table, codes, shape)


def _lattice(codebook: Codebook, table: Tensor, codes: Codes, outer: Tensor, shape: tuple[int, int]) -> Resident:
    """Hold `codes` of (rows, pairs) as bytes, and the pairs `outer` (E,), those in shells, decoded as well."""
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
    return Resident(planes.view(rows, 2 * pairs), table, outliers, _tiles(outliers, shape), far)


def _scalar(codebook: Codebook, table: Tensor, codes: Codes, shape: tuple[int, int]) -> Resident:
    """Hold `codes` of (rows, pairs) as scalars."""
    scalars = codes.scalars(codebook.windings).view(shape)
    if _scalar_bits(codebook) == 16:
        scalars = scalars.to(torch.int16)
    none = torch.empty(0, 3, dtype=torch.int32, device=scalars.device)
    return Resident(scalars, table, none, _tiles(none, shape), none[:, 0])


def _scalar_bits(codebook: Codebook) -> int:
    """Bits of the integers that hold scalar codes."""
    return 16 if codebook.code_count <= 1 << 16 else 32


def codebook_of(codebook: Tensor) -> Codebook:
    """Return the codebook that the tensor `codebook` holds; read from the device."""
    return _codebook(*codebook.tolist())


@lru_cache(maxsize=4096)
def _codebook(*fields: float) -> Codebook:
    centre_even, centre_odd, side, windings, shells, spacing, centred = fields
    return Codebook((centre_even, centre_odd), side, int(windings), int(shells), spacing, bool(centred))


def find_fault(held: Resident, out_features: int, in_features: int) -> str | None:
    """Say what is wrong with a weight that came from elsewhere, which kernels would not notice; None when nothing is."""
    pairs = (in_features + 1) // 2
    forms = {torch.int8: 2 * pairs, torch.int16: pairs, torch.int32: pairs}
    if tuple(held.codes.shape) != (out_features, forms.get(held.codes.dtype)):
        return f"codes of shape {tuple(held.codes.shape)} and {held.codes.dtype}"
    if held.codebook.shape != (len(FIELDS),) or held.outliers.shape[1:] != (3,) or held.far.ndim != 1:
        return "a codebook or outliers of another shape"
    book = codebook_of(held.codebook.float())
    if not (1 <= book.windings <= MAX_WINDINGS and 0 <= book.shells <= 255 and book.is_valid):
        return f"a codebook that the format does not allow, {book}"
    index = held.outliers[:, 0]
    if len(index) and (int(index[0]) < 0 or int(index[-1]) >= out_features * pairs or bool((index.diff() <= 0).any())):
        return "outliers out of order or out of bounds"
    if len(held.far) and not 0 <= int(held.far.min()) <= int(held.far.max()) < len(index):
        return "far outliers that are none"
    if not torch.equal(held.tiles, _tiles(held.outliers, (out_features, pairs))):
        return "tiles that do not fit the outliers"
    return None


@lru_cache(maxsize=4096)
def step_and_offsets(codebook: Codebook) -> tuple[float, float, float]:
    """Return step, offset_even and offset_odd of the identity above, for a centred codebook."""
    line, half = codebook.trajectory, codebook.windings // 2
    even = (half * (codebook.windings + 1) - line.origin_x) * line.pitch_x + codebook.centre[0]
    return line.pitch_y, even, (half - line.origin_y) * line.pitch_y + codebook.centre[1]


def sheared(codebook: Codebook, weights: Tensor) -> Tensor:
    """Return what stands for Q and R in the identity for `weights`, any pairs (P, 2): float32 (P, 2)."""
    shift, matrix = _shear_map(codebook, weights.device)
    return torch.addmm(shift, weights, matrix)


@lru_cache(maxsize=4096)
def _shear_map(codebook: Codebook, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return shift (2,) and matrix (2, 2) of the map from pairs of weights to what stands for Q and R."""
    step, even, odd = step_and_offsets(codebook)
    per_winding = 1 / codebook.windings
    shift = [(odd * per_winding - even) / step, -odd / step]
    matrix = [[1 / step, 0.0], [-per_winding / step, 1 / step]]
    return (
        torch.tensor(shift, dtype=torch.float32, device=device),
        torch.tensor(matrix, dtype=torch.float32, device=device),
    )


def _nearest_integers(codebook: Codebook, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bytes (Q, R) nearest to pairs of weights (P, 2), int8 (P, 2), and for which pairs they are out of reach."""
    exact = sheared(codebook, weights)
    phase = exact[:, 1].round().clamp_(-128, 127)
    winding = (exact[:, 0] + (exact[:, 1] - phase) / codebook.windings).round().clamp_(-128, 127)
    nearest = torch.stack([winding, phase], dim=1)
    return nearest.to(torch.int8), ((exact - nearest).abs() > 1).any(dim=1)


def _places(pairs: Tensor, row_pairs: int) -> Tensor:
    """Return where in the lattice planes (out, 2, h), seen as one row, Q and R of `pairs` (P,) lie: int64 (2, P)."""
    winding = pairs + pairs // row_pairs * row_pairs
    return torch.stack([winding, winding + row_pairs])


def _tiles(outliers: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return where in `outliers` each `TILE_ROWS` rows of (rows, pairs) begin, and their number."""
    rows, pairs = shape
    starts = torch.arange(math.ceil(rows / TILE_ROWS) + 1, device=outliers.device) * (TILE_ROWS * pairs)
    return torch.searchsorted(outliers[:, 0].to(torch.int64), starts).to(torch.int32)
