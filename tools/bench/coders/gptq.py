"""GPTQ (Frantar et al. 2022): integers in groups, chosen with error feedback from second moments of the inputs.

The paper's settings: min-max scales and zero points for groups of 64 along the input, columns in their own order, 1 % of
damping. A group's grid is chosen when its turn comes, from weights that already compensate the errors before them. The moments
are those that calibrate bhk itself. Tensors without moments are rounded to nearest in groups of the flat tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bhk.calibration.model import calibration_model
from bhk.calibration.moments import Moments
from bhk.calibration.options import Calibration
from bhk.calibration.samples import inputs_for
from bhk.sam.checkpoints import read_checkpoint
from tools.bench.coders.base import NOTE, StateDict, TensorCoder, as_rows, in_groups, pack_bits, unpack_bits

BY_INPUT, FLAT = "rows", "flat"  # layouts: groups along the input, or of the flat tensor
DAMPING = 0.01  # of the mean of the moments' diagonal, added to it
SMALLEST = torch.finfo(torch.float16).smallest_normal  # scale of a group that is all 0


@dataclass(frozen=True)
class Grid:
    """The values that each group of weights can take.

    Attributes:
        scale: float16 (rows, groups).
        zero: the code of 0, uint8 (rows, groups).
    """

    scale: Tensor
    zero: Tensor

    def nearest(self, weights: Tensor, top: int) -> Tensor:
        """Return codes 0 … `top`, float32, of `weights`, which have the grid's groups."""
        return (weights / self.scale.float() + self.zero.float()).round().clamp(0, top)

    def values(self, codes: Tensor) -> Tensor:
        """Return the weights, float32, of `codes`, which have the grid's groups."""
        return (codes.float() - self.zero.float()) * self.scale.float()

    def spread(self, group: int, columns: int) -> Grid:
        """Return the grid with one group for each of the `columns`, where `group` neighbours share their values."""
        scale, zero = (part.repeat_interleave(group, 1)[:, :columns] for part in (self.scale, self.zero))
        return Grid(scale, zero)


def min_max_grid(weights: Tensor, top: int) -> Grid:
    """Return the grid of `weights` (rows, group), a group each row: from its smallest to its largest, with 0 in it."""
    low, high = weights.amin(1, keepdim=True).clamp(max=0), weights.amax(1, keepdim=True).clamp(min=0)
    scale = ((high - low) / top).clamp(min=SMALLEST).half()
    return Grid(scale, (-low / scale.float()).round().clamp(0, top).to(torch.uint8))


@dataclass(frozen=True)
class Gptq(TensorCoder):
    """Min-max integers in groups along the input, with error feedback.

    Attributes:
        moments: the file of `write_moments`.
    """

    bits: int
    moments: Path
    group: int = 64
    name: str = "GPTQ"
    package: str = "torch"

    @property
    def setting(self) -> str:
        return f"int{self.bits}, group {self.group}"

    @property
    def note(self) -> str:
        return f"own reference; float16 scales, zero points, bit-packed; damping {DAMPING:.0%}; {NOTE}"

    @property
    def _top(self) -> int:
        return 2**self.bits - 1

    def code(self, name: str, tensor: Tensor) -> StateDict:
        factor = self._factor(name)
        codes, grid = self._rounded(as_rows(tensor) if factor is not None else in_groups(tensor, self.group), factor)
        packed = pack_bits(grid.zero, self.bits), pack_bits(codes, self.bits)
        return {BY_INPUT if factor is not None else FLAT: torch.cat([grid.scale.view(torch.uint8).flatten(), *packed])}

    def values(self, parts: StateDict, shape: list[int]) -> Tensor:
        ((layout, packed),) = parts.items()
        like = torch.empty(shape, device="meta")
        rows, columns = (as_rows(like) if layout == BY_INPUT else in_groups(like, self.group)).shape
        groups = rows * math.ceil(columns / self.group)
        scales, zeros = 2 * groups, math.ceil(groups * self.bits / 8)
        scale, zero, codes = packed.tensor_split((scales, scales + zeros))
        grid = Grid(scale.view(torch.float16).view(rows, -1), unpack_bits(zero, self.bits, groups).view(rows, -1))
        weights = grid.spread(self.group, columns).values(unpack_bits(codes, self.bits, rows * columns).view(rows, -1))
        return weights.flatten()[: math.prod(shape)].view(shape)

    def _factor(self, name: str) -> Tensor | None:
        """Return the feedback factor of a tensor; None if it has no moments."""
        with safe_open(self.moments, "pt") as file:
            return feedback_factor(file.get_tensor(name)) if name in file.keys() else None  # noqa: SIM118

    def _rounded(self, matrix: Tensor, factor: Tensor | None) -> tuple[Tensor, Grid]:
        """Return the codes of `matrix`, uint8 (rows, columns), and their grid."""
        if factor is None:
            grid = min_max_grid(matrix, self._top)
            return grid.nearest(matrix, self._top).to(torch.uint8), grid
        rest, codes, grids = matrix.float().clone(), torch.empty(matrix.shape, dtype=torch.uint8), []
        for start in range(0, matrix.shape[1], self.group):
            weights, inner = rest[:, start : start + self.group], factor[start : start + self.group, start:]
            grid, errors = min_max_grid(weights, self._top), torch.empty_like(weights)
            for at in range(weights.shape[1]):
                column = weights[:, at, None]
                code = grid.nearest(column, self._top)
                errors[:, at, None] = (column - grid.values(code)) / inner[at, at]
                weights[:, at + 1 :].addr_(errors[:, at], inner[at, at + 1 : weights.shape[1]], alpha=-1)
                codes[:, start + at, None] = code.to(torch.uint8)
            rest[:, start + self.group :].addmm_(errors, inner[:, self.group :], alpha=-1)
            grids.append(grid)
        return codes, Grid(torch.cat([grid.scale for grid in grids], 1), torch.cat([grid.zero for grid in grids], 1))


def feedback_factor(moments: Tensor) -> Tensor | None:
    """Return the upper triangular U of U^T U = inverse(damped moments), float32; None if all inputs are 0."""
    mean = moments.diagonal().double().mean()
    if not float(mean) > 0:
        return None
    damped = moments.double() + torch.eye(len(moments), dtype=torch.float64) * (DAMPING * mean)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True).float()


def write_moments(source: Path, calibration: Calibration, target: Path) -> None:
    """Write the second moments (columns, columns) of the inputs of tensors, by their names, to a .safetensors file.

    Args:
        source: the checkpoint of a model that bhk can build.
        calibration: what to show it.
    """
    model = calibration_model(source, *read_checkpoint(source, None))
    inputs, _ = inputs_for(model.module, calibration)
    parameters = dict(model.module.named_parameters())
    weights = {name: parameters[own] for own, name in model.names.items() if parameters[own].ndim in (2, 4)}
    with torch.no_grad(), Moments(weights) as moments:
        for index in range(len(inputs)):
            inputs.run(model.module, index)
    save_file({name: found.total for name, found in moments.found.items()}, target)
