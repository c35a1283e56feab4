"""Find the lattice step at which a tensor has a wanted signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bhk.codec.fit import PresetError, step_for

TOLERANCE_DB = 0.1  # what bhk promises
CLOSE_DB = 0.05  # close enough to stop encoding again
MAX_ENCODINGS = 8


def root_mean_square(tensor: Tensor) -> float:
    """Return the root mean square of a tensor's elements, in weight units."""
    norm = float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64))
    return norm / math.sqrt(max(tensor.numel(), 1))


def step_for_snr(tensor: Tensor, snr_db: float, snr_at: Callable[[float], float | None]) -> float:
    """Return a lattice step, in weight units, at which `tensor` has the signal-to-noise ratio `snr_db`.

    The ratio may be higher than wanted where no step gives less, as for weights that themselves lie on a lattice.

    Args:
        tensor: floating point.
        snr_db: the wanted ratio in dB.
        snr_at: encodes the tensor with a step; returns its ratio in dB, or None if it is kept exact.

    Raises:
        PresetError: no step tried has the ratio.
    """
    step = step_for(root_mean_square(tensor), snr_db)
    tried: list[tuple[float, float]] = []  # the ratio and the step
    for _ in range(MAX_ENCODINGS):
        found = snr_at(step)
        if found is None:
            return step
        tried.append((found, step))
        if abs(found - snr_db) <= CLOSE_DB or found == math.inf:
            break
        step *= 10 ** ((found - snr_db) / 20)  # errors grow as the step does
    enough = [one for one in tried if one[0] >= snr_db - TOLERANCE_DB]
    if not enough:
        raise PresetError(
            f"a signal-to-noise ratio of {snr_db:g} dB was asked for; the tensor reaches {max(tried)[0]:.1f} dB at most"
        )
    return min(enough, key=lambda one: abs(one[0] - snr_db))[1]
