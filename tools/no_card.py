"""A Triton driver for a card that there is not: kernels are compiled for it, and never launched."""

from __future__ import annotations

from dataclasses import dataclass

from triton.backends.compiler import GPUTarget


@dataclass(frozen=True)
class NoCard:
    """A driver for `triton.runtime.driver.set_active`.

    Attributes:
        capability: of the card, 90 for Hopper.
        device: its number, under which Triton keeps what it has compiled.
    """

    capability: int = 90
    device: int = 0

    def get_current_device(self) -> int:
        """Return the number of the device."""
        return self.device

    def get_current_stream(self, _device: int) -> int:
        """Return the stream that kernels would be launched on."""
        return 7

    def get_current_target(self) -> GPUTarget:
        """Return what to compile for."""
        return GPUTarget("cuda", self.capability, 32)
