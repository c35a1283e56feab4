from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bhk.codec.trajectory import MAX_SIDE, MIN_SIDE, Lattice, Trajectory, float32

_WINDINGS = [1, 2, 3, 5, 7, 35, 40, 64, 100, 128, 131, 255, 256]
_SEARCHES = ["nearest_", "nearest_exhaustive"]
_LATTICES = ["centred", "corner", "grid"]


def _lattice(windings: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Winding and phase of every step, float32 (n^2,)."""
    steps = torch.arange(windings**2)
    return (steps // windings).float(), (steps % windings).float()


def _points(side: float, n: int, lattice: Lattice) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Section 7.2 of the format: every operation rounded once to float32."""
    k = np.arange(n * n)
    q, r = k // n, k % n
    if lattice == "grid":
        x, y = ((numbers - n // 2).astype(np.float32) * np.float32(side / n) for numbers in (q, r))
        return x, y
    pitch_x = np.float32(side / n**2)
    x = (k.astype(np.float32) - np.float32((n * n - (lattice == "centred")) / 2)) * pitch_x
    if lattice == "centred":
        return x, (r.astype(np.float32) - np.float32((n - 1) / 2)) * np.float32(side / n)
    a = k.astype(np.float32) * np.float32(n * float(pitch_x))
    b = (a.astype(np.float64) - q.astype(np.float64) * side).astype(np.float32)
    return x, b - np.float32(side / 2)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(side=st.floats(MIN_SIDE, MAX_SIDE, width=32), windings=st.integers(1, 256), lattice=st.sampled_from(_LATTICES))
@example(side=MIN_SIDE, windings=256, lattice="centred")
@example(side=MAX_SIDE, windings=256, lattice="corner")
@example(side=MAX_SIDE, windings=255, lattice="grid")
@example(side=float(np.float32(0.1)), windings=35, lattice="corner")
def test_points_are_those_of_the_format_bit_for_bit(side: float, windings: int, lattice: Lattice) -> None:
    x, y = Trajectory(side, windings, lattice).points_(*_lattice(windings))
    expected_x, expected_y = _points(side, windings, lattice)
    assert x.dtype == y.dtype == torch.float32
    assert x.numpy().tobytes() == expected_x.tobytes()
    assert y.numpy().tobytes() == expected_y.tobytes()


@pytest.mark.parametrize("search", _SEARCHES)
@pytest.mark.parametrize("lattice", _LATTICES)
@pytest.mark.parametrize("windings", _WINDINGS)
@pytest.mark.parametrize("side", [0.1, 1.0, 3e-25])
def test_the_nearest_step_of_every_point_is_its_own(side: float, windings: int, lattice: Lattice, search: str) -> None:
    trajectory = Trajectory(float32(side), windings, lattice)
    winding, phase = _lattice(windings)
    x, y = trajectory.points_(winding.clone(), phase.clone())
    if lattice == "grid" and search == "nearest_exhaustive":
        return
    found = getattr(trajectory, search)(x, y)
    assert torch.equal(found[0], winding)
    assert torch.equal(found[1], phase)


@pytest.mark.parametrize("windings", [1, 2, 7, 64, 255])
def test_a_centred_lattice_surrounds_its_centre_evenly(windings: int) -> None:
    x, y = Trajectory(1.0, windings).points_(*_lattice(windings))
    assert torch.equal(x, -x.flip(0))
    assert torch.equal(y, -y.flip(0))
    assert max(float(x.abs().max()), float(y.abs().max())) < 0.5


def _distances(
    trajectory: Trajectory, x: torch.Tensor, y: torch.Tensor, winding: torch.Tensor, phase: torch.Tensor
) -> torch.Tensor:
    px, py = trajectory.points_(winding.clone(), phase.clone())
    return torch.hypot(x.double() - px.double(), y.double() - py.double())


@pytest.mark.parametrize("lattice", ["centred", "corner"])
@pytest.mark.parametrize("windings", [1, 2, 3, 7, 35, 40])
def test_the_exhaustive_search_finds_the_nearest_of_all_points(windings: int, lattice: Lattice) -> None:
    trajectory = Trajectory(float32(0.1), windings, lattice)
    # Some points lie outside the square, where codes are clamped.
    x, y = 0.13 * torch.rand(2, 777, generator=torch.Generator().manual_seed(windings)) - 0.065
    px, py = trajectory.points_(*_lattice(windings))
    shortest = torch.hypot(x.double()[:, None] - px, y.double()[:, None] - py).amin(dim=1)
    found = _distances(trajectory, x, y, *trajectory.nearest_exhaustive(x.clone(), y.clone()))
    assert float((found - shortest).max()) < 1e-5 * trajectory.side / windings


def test_the_quick_search_misses_few_points_and_by_little() -> None:
    trajectory = Trajectory(1.0, 35)
    x, y = torch.rand(2, 100_001, generator=torch.Generator().manual_seed(3)) - 0.5
    nearest = _distances(trajectory, x, y, *trajectory.nearest_exhaustive(x.clone(), y.clone()))
    quick = _distances(trajectory, x, y, *trajectory.nearest_(x.clone(), y.clone()))
    missed = quick > nearest + 1e-6
    assert 0.001 < float(missed.float().mean()) < 0.01
    assert float(quick.square().mean() / nearest.square().mean()) < 1.0005


@pytest.mark.parametrize("search", _SEARCHES)
def test_points_far_away_are_clamped_to_the_square(search: str) -> None:
    trajectory = Trajectory(0.5, 9, True)
    winding, phase = getattr(trajectory, search)(torch.tensor([-1e30, 1e30, 0.0]), torch.tensor([1e30, -1e30, -7.0]))
    assert winding.tolist() == [0, 8, 4]
    assert phase.tolist() == [8, 0, 0]


@settings(derandomize=True)
@given(st.floats(allow_nan=False))
@example(3.4028235677973366e38)  # half-way between the largest float32 and infinity
@example(-1e39)
@example(1e-46)
def test_float32_rounds_to_nearest(value: float) -> None:
    with np.errstate(over="ignore"):
        assert float32(value) == float(np.float32(value))
