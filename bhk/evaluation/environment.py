"""What results were measured with: versions, and the names of processor and GPU."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch


@dataclass(frozen=True)
class Environment:
    """What results were measured with.

    Attributes:
        python, torch, numpy: versions.
        processor: name of the processor.
        device: where the models ran: "cpu", or the name of the GPU; "cuda" if this machine has none, but those of a cluster.
    """

    python: str
    torch: str
    numpy: str
    processor: str
    device: str

    @property
    def described(self) -> str:
        """The environment in one line."""
        place = self.processor if self.device == "cpu" else f"{self.device}, {self.processor}"
        return f"python {self.python}, torch {self.torch}, numpy {self.numpy}; {place}"


def environment(device: str) -> Environment:
    """Return this environment, with models on `device`."""
    place = torch.device(device)
    has_gpu = place.type == "cuda" and torch.cuda.is_available()
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        numpy=numpy.__version__,
        processor=processor_name(),
        device=torch.cuda.get_device_name(place) if has_gpu else place.type,
    )


def processor_name() -> str:
    """Return the name of the processor, such as "AMD EPYC 9V74"; its architecture where the system does not tell."""
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1] if found else platform.processor() or platform.machine()
