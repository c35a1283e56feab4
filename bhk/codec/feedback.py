"""Codes with error feedback: columns are coded one by one, and later columns compensate each column's error (GPTQ).

Let y = W x be a layer and M the sum of x x^T over its inputs, their second moments. An error E of the weights changes the
outputs by tr(E M E^T) in total, so errors in directions that no input takes cost nothing. The columns of W are rounded one by
one. Each column's error is carried into the columns not yet rounded, so that the outputs change least:

    inverse(M) = U^T U, U upper triangular        e_i = (w_i - rounded w_i) / U_ii        w_j -= U_ij e_i for j > i

Source: GPTQ (Frantar et al. 2022), after Optimal Brain Surgeon (Hassibi and Stork 1993). On the trajectory, a pair's phase is
chosen first. Its error is carried into the pair's other weight, too, and shifts the lattice on which the winding is chosen.
Weights of zero stay zero where the codebook has a point for them: they only pass on what was carried into them.
Pairs are taken in falling order of the power of their inputs, so that most columns follow the most important pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.fit import MAX_OUTSIDE, WINDINGS, encode_to_step
from bhk.codec.trajectory import float32

DAMPING = 0.03  # times the diagonal's mean, added to it: a few inputs say little about rare directions
BLOCK = 128  # columns whose errors reach the later ones in one matrix product


@dataclass(frozen=True, eq=False)
class Feedback:
    """How the error of each column of a matrix is carried into later columns.

    Attributes:
        order: pairs of columns in the order in which they are rounded, int64 (columns / 2,).
        factor: U, float32 (columns, columns), in the same order, with the odd column of a pair before the even one.
        chance: how much of the second moments was chance, 0 to 1; see `feedback_from`.
    """

    order: Tensor
    factor: Tensor
    chance: float = 0.0

    @cached_property
    def columns(self) -> Tensor:
        """The columns in the order in which they are rounded, int64 (columns,)."""
        return torch.stack([2 * self.order + 1, 2 * self.order], dim=1).flatten()

    def output_change(self, gradient: Tensor) -> float:
        """Return the expected squared change of an output with feedback, divided by the error step^2 / 12 of a step.

        A gradient from the inputs that gave the moments flatters the feedback, which was fitted to them. So the share
        `chance` of the change is taken from plain rounding.

        Args:
            gradient: of the output with respect to the matrix, floating point (rows, columns), without padding.
        """
        short = len(self.factor) - gradient.shape[1]
        padded = torch.nn.functional.pad(gradient.float(), (0, short))[:, self.columns]
        shape = self.factor / self.factor.diagonal()[:, None]  # the errors of a row are white noise times this
        fed, plain = float((padded @ shape.T).square().sum()), float(padded.square().sum())
        return (1 - self.chance) * fed + self.chance * plain


def feedback_from(moments: Tensor, chance: float = 0.0) -> Feedback | None:
    """Return the feedback for second moments, or None if all inputs are 0 or one is not finite.

    An odd number of columns is padded by one without inputs, as rows of weights are. DAMPING makes singular moments regular,
    which come from inputs that are always 0 or fewer than the columns.

    Args:
        moments: a floating-point tensor (columns, columns).
        chance: the share of white inputs of equal power to mix in, 0 to 1: how much of the moments is chance. With few
            inputs, feedback would fit those inputs and harm all others; with 1, it is plain rounding.
    """
    mean = float(moments.diagonal().double().mean())
    if not 0 < mean < float("inf") or not bool(moments.isfinite().all()):
        return None
    padded = torch.nn.functional.pad(moments.double(), (0, moments.shape[0] % 2) * 2)
    power = padded.diagonal().view(-1, 2).sum(dim=1)
    order = power.argsort(descending=True, stable=True)
    columns = torch.stack([2 * order + 1, 2 * order], dim=1).flatten()
    padded = padded[columns][:, columns] * (1 - chance)
    padded.diagonal().add_((chance + DAMPING) * mean)
    # With M = R R^T, R upper triangular, U is inverse(R); R is the Cholesky factor of M with both axes turned round.
    root = torch.linalg.cholesky(padded.flip(0, 1)).flip(0, 1)
    identity = torch.eye(len(root), dtype=root.dtype, device=root.device)
    factor = torch.linalg.solve_triangular(root, identity, upper=True).float().contiguous()
    return Feedback(order, factor, chance)


def encode_with_feedback(pairs: Tensor, step: float, feedback: Feedback) -> tuple[Codebook, Codes] | None:
    """Choose a codebook of lattice step `step` for `pairs`, and their codes with feedback; None if no codebook fits.

    The codebook is that of `encode_to_step`, with more windings if the carried errors take too many pairs out of the square.

    Args:
        pairs: floating-point tensor (P, 2): the rows of a matrix, each padded to a whole number of pairs.
        step: lattice step in weight units.
        feedback: made for the columns of that matrix.
    """
    coded = encode_to_step(pairs, step)
    if coded is None or coded[0].windings == 1:
        return coded
    codebook = coded[0]
    for windings in (n for n in WINDINGS if n >= codebook.windings):
        wider = replace(codebook, windings=windings, side=float32(windings * step))
        codes, outside = _encode(pairs, wider, feedback)
        if outside <= MAX_OUTSIDE * len(pairs):
            return wider, codes
    return (wider, codes) if wider.shells else coded  # without shells, those outside would lie on the edge


def _encode(pairs: Tensor, codebook: Codebook, feedback: Feedback) -> tuple[Codes, int]:
    """Return the codes of `pairs`, and how many pairs were outside the square when they were coded."""
    columns = 2 * len(feedback.order)
    centre = torch.tensor(codebook.centre, dtype=torch.float32, device=pairs.device)
    offsets = (pairs.float() - centre).view(-1, columns)
    rest = offsets.T[feedback.columns]  # (columns, rows), so that each column is contiguous
    zeros = (pairs == 0).view(-1, columns).T[feedback.columns] if codebook.has_zero else None
    planes = torch.empty(3, len(feedback.order), len(offsets), dtype=torch.uint8, device=pairs.device)
    outside = torch.zeros((), dtype=torch.int64, device=pairs.device)
    for start in range(0, columns, BLOCK):
        block = rest[start : start + BLOCK]
        factor = feedback.factor[start : start + BLOCK, start:]
        errors = torch.empty_like(block)
        for at in range(0, len(block), 2):
            fixed = None if zeros is None else zeros[start + at : start + at + 2]
            outside += _encode_pair(block, at, factor, errors, codebook, planes[:, (start + at) // 2], fixed)
        rest[start + BLOCK :].addmm_(factor[:, BLOCK:].T, errors, alpha=-1)
    ordered = torch.empty_like(planes).index_copy_(1, feedback.order, planes)
    winding, phase, shell = ordered.transpose(1, 2).reshape(3, -1).unbind()
    return Codes(winding, phase, shell if codebook.shells else None), int(outside)


def _encode_pair(
    block: Tensor,
    at: int,
    factor: Tensor,
    errors: Tensor,
    codebook: Codebook,
    planes: Tensor,
    zeros: Tensor | None,
) -> Tensor:
    """Code the pairs in rows `at` (y) and `at + 1` (x) of `block`, and carry their errors into the later rows.

    Args:
        block: (columns, rows) float32, offsets from the centre.
        factor: the rows of U for the columns of `block`.
        errors: shaped as `block`; receives the scaled errors.
        codebook: the trajectory and its shells.
        planes: (3, rows) uint8; receives winding, phase and shell.
        zeros: bool (2, rows): which weights y and x stay zero; None if none does.

    Returns:
        the number of pairs outside the square, an int64 scalar.
    """
    trajectory = codebook.trajectory
    y, x = block[at], block[at + 1]
    goal_y, goal_x = (y, x) if zeros is None else block[at : at + 2].masked_fill(zeros, 0)
    outside = torch.maximum(goal_x.abs(), goal_y.abs()) > codebook.side / 2
    scale = torch.ones_like(x)
    planes[2] = 0
    if codebook.shells:
        planes[2] = torch.where(outside, codebook.shell_of(goal_x, goal_y), 0)
        scale = torch.tensor(codebook.scales, dtype=torch.float32, device=x.device)[planes[2].long()]
    phase = trajectory.nearest_phase_(goal_y / scale)
    _carry(block, at, y - (phase - trajectory.origin_y) * (trajectory.pitch_y * scale), factor, errors)
    goal_x = x if zeros is None else x.masked_fill(zeros[1], 0)  # x has changed
    winding = trajectory.nearest_winding_(goal_x / scale, phase)
    along = winding * trajectory.windings + phase if trajectory.lean else winding
    place = (along - trajectory.origin_x) * (trajectory.pitch_x * scale)
    _carry(block, at + 1, x - place, factor, errors)
    planes[0], planes[1] = winding, phase
    return outside.sum()


def _carry(block: Tensor, at: int, error: Tensor, factor: Tensor, errors: Tensor) -> None:
    """Carry the error of row `at`, float32 (rows,), into the later rows."""
    torch.div(error, factor[at, at], out=errors[at])
    block[at + 1 :].addr_(factor[at, at + 1 : len(block)], errors[at], alpha=-1)
