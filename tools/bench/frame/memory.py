"""Memory that a process takes, and that weights take."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from bhk.nn import HyperLinear

MIB = 2**20
_PROCESS = Path("/proc/self")


class HostPeak:
    """By how much the resident memory of this process grows at most after this was made."""

    def __init__(self) -> None:
        self._idle = _resident_kib("VmRSS")
        try:
            (_PROCESS / "clear_refs").write_text("5")  # the peak so far is forgotten
        except OSError:
            self._idle = None

    @property
    def mib(self) -> float | None:
        """The growth in MiB; None where the system does not tell."""
        peak = _resident_kib("VmHWM")
        return None if peak is None or self._idle is None else (peak - self._idle) / 1024


def _resident_kib(field: str) -> int | None:
    try:
        found = re.search(rf"{field}:\s*(\d+) kB", (_PROCESS / "status").read_text())
    except OSError:  # no Linux
        return None
    return int(found[1]) if found else None


def module_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, shared ones once."""
    return sum(tensor.nbytes for tensor in [*module.parameters(), *module.buffers()])


def linear_bytes(module: nn.Module) -> int:
    """Return the bytes held for the weights of linear layers, their codebooks and outliers included, biases not."""
    total = 0
    for part in module.modules():
        if isinstance(part, HyperLinear):
            total += sum(buffer.nbytes for buffer in part.buffers())
        elif isinstance(part, nn.Linear):
            total += part.weight.nbytes
    return total
