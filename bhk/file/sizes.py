"""Sizes of models that do not depend on how precise their checkpoint is."""

from __future__ import annotations

from collections.abc import Iterable

from bhk.container.header import LayerEntry

_FLOAT32_BYTES = 4


def float32_bytes(layers: Iterable[LayerEntry]) -> int:
    """Return the bytes of dense tensors if all that hold floating-point numbers were float32.

    A half-precision checkpoint takes half of that, so ratios against its own size are half of those of a float32 checkpoint.
    """
    return sum(
        layer.numel * _FLOAT32_BYTES if layer.dtype.startswith(("F", "BF")) else layer.dense_bytes for layer in layers
    )
