"""What a file holds, as torch tensors: they share the memory of the arrays that were read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bhk.codec.codebook import Codes
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.codec.geometry import Planes


def tensor_of(bits: npt.NDArray[Any], dtype: str) -> Tensor:
    """Return elements, given as their bits, as a tensor of the dtype that the format calls `dtype`."""
    data = torch.from_numpy(bits.reshape(-1).view(np.uint8))
    return data.view(TORCH_DTYPES[dtype]).reshape(bits.shape)


def codes_of(planes: Planes) -> Codes:
    """Return byte planes as tensors."""
    shell = None if planes.shell is None else torch.from_numpy(planes.shell)
    return Codes(torch.from_numpy(planes.winding), torch.from_numpy(planes.phase), shell)
