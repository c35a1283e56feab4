"""The device that a model is on, and what it says when it is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from bhk.base.errors import BhkError


class DeviceMemoryError(BhkError):
    """The device has no room for the picture, or for as many masks at a time."""


def device_of(model: nn.Module) -> torch.device:
    """Return where the tensors of a model are; the CPU for a model without any."""
    tensors = [*model.parameters(), *model.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


@contextlib.contextmanager
def memory_error(model: nn.Module, width: int, height: int) -> Iterator[None]:
    """Turn what torch says when a device is full, while it works on a picture of this size, into advice.

    Raises:
        DeviceMemoryError: the device is full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{device_of(model)} has no room for masks of {width} x {height} pixels; "
            "use another device, dtype bfloat16, or a smaller picture"
        ) from error
