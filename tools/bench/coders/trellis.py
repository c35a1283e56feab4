"""Trellis-coded quantization on a lattice (Marcellin and Fischer 1990), with Ungerboeck's code of 8 states.

A bit z chooses between even points (z = 0) and odd points (z = 1) of the lattice; it follows from earlier codes:

    z[n] = z[n-1] xor z[n-3] xor (code[n-2] mod 2)        point[n] = 2 code[n] + z[n]

So each code has steps twice as long as the lattice, and the Viterbi algorithm finds the codes whose points lie closest. A run
starts in state 0 every RUN codes, so that runs are coded side by side.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RUN = 64
STATES = 8

# State r1 + 2 r2 + 4 r3, of which r1 is z: r1' = r2 xor r1, r2' = r3 xor (code mod 2), r3' = r1.
_Z = np.arange(STATES) & 1
_NEXT = np.array([[((s >> 1 ^ s) & 1) | ((s >> 2 ^ p) & 1) << 1 | (s & 1) << 2 for p in (0, 1)] for s in range(STATES)])
# The two states and parities that lead to each state.
_BEFORE = np.array([[(s, p) for s in range(STATES) for p in (0, 1) if _NEXT[s, p] == t] for t in range(STATES)])
_FROM, _PARITY = _BEFORE[..., 0], _BEFORE[..., 1]

SCALE = 0.6  # of a lattice whose codes take as many bits as those of a plain one of step 1


def encode_column(x: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the codes (N,) of numbers (N,) in steps of a plain lattice."""
    runs = -(-len(x) // RUN)
    places = np.zeros(runs * RUN)
    places[: len(x)] = x / SCALE
    places = places.reshape(runs, RUN)
    counts = (np.arange(runs * RUN) < len(x)).reshape(runs, RUN)  # what fills the last run does not
    cost = np.full((runs, STATES), np.inf)
    cost[:, 0] = 0
    codes, back = np.empty((2, RUN, runs, STATES), np.int64)
    rows = np.arange(runs)[:, None]
    for at in range(RUN):
        place = places[:, at, None, None]
        z, parity = np.arange(2)[:, None], np.arange(2)
        nearest = 2 * np.rint((place - z - 2 * parity) / 4) + parity  # (runs, z, parity)
        error = (place - 2 * nearest - z) ** 2 * counts[:, at, None, None]
        tried = cost[:, _FROM] + error[:, _Z[_FROM], _PARITY]  # (runs, STATES, 2)
        best = tried.argmin(2)
        cost = np.take_along_axis(tried, best[..., None], 2)[..., 0]
        states = np.arange(STATES)
        back[at] = _FROM[states, best]
        codes[at] = nearest[rows, _Z[back[at]], _PARITY[states, best]]
    state = cost.argmin(1)
    found = np.empty((runs, RUN), np.int64)
    for at in reversed(range(RUN)):
        found[:, at] = codes[at][rows[:, 0], state]
        state = back[at][rows[:, 0], state]
    return found.ravel()[: len(x)]


def decode_column(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the points (N,) of codes (N,), in steps of a plain lattice."""
    runs = -(-len(codes) // RUN)
    padded = np.zeros(runs * RUN, np.int64)
    padded[: len(codes)] = codes
    padded = padded.reshape(runs, RUN)
    points = np.empty((runs, RUN))
    state = np.zeros(runs, np.int64)
    for at in range(RUN):
        points[:, at] = 2 * padded[:, at] + _Z[state]
        state = _NEXT[state, padded[:, at] & 1]
    return points.ravel()[: len(codes)] * SCALE
