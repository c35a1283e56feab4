"""COCO's uncompressed run-length encoding of masks. Runs go down the columns, and the first run is of zeros.

Source: the COCO data format; `pycocotools.mask` for the order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of a bool mask (height, width), zeros and ones in turn."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(edges, prepend=0, append=flat.size)
    return np.insert(counts, 0, 0) if flat.size and flat[0] else counts


def encode(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Return a bool mask (height, width) as `{"size": [height, width], "counts": [...]}`."""
    return {"size": list(mask.shape), "counts": runs(mask).tolist()}


def decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """Return the bool mask (height, width) that `encode` was given."""
    counts = rle["counts"]
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(rle["size"], order="F")
