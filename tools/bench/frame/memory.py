"""Memory that a process takes, and memory that weights take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

MIB = 2**20


class HostPeak:
    """The most by which the resident memory of this process has grown since this object was made."""

    def __init__(self) -> None:
        self._idle = status_bytes("VmRSS")
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        except OSError:
            self._idle = None

    @property
    def mib(self) -> float | None:
        """The growth in MiB; None where the system does not tell."""
        peak = status_bytes("VmHWM")
        return None if peak is None or self._idle is None else (peak - self._idle) / MIB


def status_bytes(field: str, process: int | str = "self") -> int | None:
    """Return an amount of memory that Linux tells of a process; None if it does not, or the process has ended."""
    try:
        found = re.search(rf"{field}:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def module_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers; shared ones count once."""
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


def linear_bytes(module: nn.Module) -> int:
    """Return the bytes held for the weights of linear layers: codebooks, outliers and packed copies count, biases do not.

    Some layers make a packed copy of their codes in the first call with many rows.
    """
    from torch import nn

    from bhk.kernels.onednn import packed_bytes
    from bhk.nn import HyperLinear

    total = 0
    for part in module.modules():
        if isinstance(part, HyperLinear):
            total += sum(buffer.nbytes for buffer in part.buffers()) + packed_bytes(part.codes)
        elif isinstance(part, nn.Linear):
            total += part.weight.nbytes
    return total


def held_bytes(layer: nn.Module) -> int:
    """Return the bytes of a layer's tensors, with those inside the tensor subclasses of torchao."""
    return sum(map(_nbytes, layer.state_dict().values()))


def _nbytes(tensor: Tensor) -> int:
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    names, _ = tensor.__tensor_flatten__()
    return sum(_nbytes(getattr(tensor, name)) for name in names)
