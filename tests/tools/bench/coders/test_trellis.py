from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tools.bench.coders.trellis import RUN, SCALE, decode_column, encode_column


def _by_recursion(codes: list[int]) -> list[float]:
    """Return the points of one run, by the recursion of the module's text."""
    z: list[int] = []
    for n in range(len(codes)):
        bit = (z[n - 1] if n >= 1 else 0) ^ (z[n - 3] if n >= 3 else 0) ^ (codes[n - 2] & 1 if n >= 2 else 0)
        z.append(bit)
    return [(2 * code + bit) * SCALE for code, bit in zip(codes, z, strict=True)]


def test_points_follow_the_recursion_and_each_run_starts_anew() -> None:
    codes = np.random.default_rng(0).integers(-5, 6, RUN + 40)
    points = decode_column(codes)
    assert points.tolist() == pytest.approx(
        [*_by_recursion(codes[:RUN].tolist()), *_by_recursion(codes[RUN:].tolist())]
    )


def test_no_other_codes_are_closer() -> None:
    x = np.random.default_rng(1).normal(0, 1, 6).astype(np.float32)
    found = float(((decode_column(encode_column(x)) - x) ** 2).sum())
    best = min(sum((np.array(_by_recursion(list(codes))) - x) ** 2) for codes in product(range(-2, 3), repeat=6))
    assert found == pytest.approx(float(best))


def test_errors_are_smaller_than_those_of_a_lattice_of_as_many_bits() -> None:
    x = np.random.default_rng(2).normal(0, 3, 20000).astype(np.float32)
    codes = encode_column(x)
    error = float(((decode_column(codes) - x) ** 2).mean())

    def bits(values: np.ndarray) -> float:
        shares = np.unique(values, return_counts=True)[1] / len(values)
        return float(-(shares * np.log2(shares)).sum())

    rounding = 4 ** (bits(np.rint(x)) - bits(codes)) / 12  # of a lattice with the bits of the trellis
    assert error < 0.9 * rounding
