"""A stand-in for Triton's CUDA driver: kernels compile without a GPU, and are never launched."""

from __future__ import annotations

from dataclasses import dataclass

from triton.backends.compiler import GPUTarget


@dataclass(frozen=True)
class NoGpu:
    """A driver for `triton.runtime.driver.set_active`.

    Attributes:
        capability: what to compile for; 90 is Hopper.
        device: the number under which Triton keeps the compiled kernels.
    """

    capability: int = 90
    device: int = 0

    def get_current_device(self) -> int:
        """Return the device's number."""
        return self.device

    def get_current_stream(self, _device: int) -> int:
        """Return the stream for launches."""
        return 7

    def get_current_target(self) -> GPUTarget:
        """Return what to compile for."""
        return GPUTarget("cuda", self.capability, 32)
