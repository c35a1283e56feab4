"""Building modules quickly and without weights, which a .bhk file then provides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_META = torch.device("meta")
_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.outer)


class ModuleTooLargeError(ValueError):
    """A module being built is larger than it may be."""


@dataclass
class Most:
    """How much a module may hold while it is built, so that settings from outside cannot fill the memory.

    Attributes:
        tensors: how many tensors it may make.
        elements: how many elements they may have together, and each tensor that a module computes while it is built.
    """

    tensors: int
    elements: int

    @classmethod
    def of(cls, shapes: Iterable[Sequence[int]]) -> Most:
        """Return what a module for tensors of these shapes needs at most: it may hold more, such as buffers stored nowhere."""
        sizes = [math.prod(shape) for shape in shapes]
        return cls(2 * len(sizes) + 1000, 2 * sum(sizes) + (1 << 24))

    def take(self, elements: int) -> None:
        """Count a tensor of so many elements, in the order in which they are made.

        Raises:
            ModuleTooLargeError: there are too many, or they are too large.
        """
        self.tensors -= 1
        self.elements -= elements
        if self.tensors < 0 or self.elements < 0:
            raise ModuleTooLargeError("the model is larger than the tensors that it would take")


def weights_on_meta(most: Most | None = None) -> AbstractContextManager[object]:
    """Return a context in which modules are built with their weights on the meta device: no memory, no initialisation.

    >>> with bhk.nn.weights_on_meta():
    ...     layer = torch.nn.Linear(1280, 5120)
    >>> layer.weight.device
    device(type='meta')

    Only tensors from `torch.empty` go there; torch's own modules make their parameters with it. Tensors that a module computes
    while it is built (position tables, pixel means) are real, unlike under `torch.device("meta")`. Such buffers are often in
    no checkpoint. Parameters made by `torch.zeros` are real as well, and loading replaces them. Inside the context, moving a
    module to a device does not move its weights.

    Args:
        most: what may be made there; None for no limit.

    Raises:
        ModuleTooLargeError: inside the context, more is made.
    """
    return _WeightsOnMeta(most)


class _WeightsOnMeta(TorchFunctionMode):
    def __init__(self, most: Most | None) -> None:
        super().__init__()
        self._most = most

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        filled = args[0] if args else options.get("tensor")
        if _is_filling(func) and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        if func is torch.empty and options.get("device") is None:
            options["device"] = _META
        elif func is torch.Tensor.to and args[0].is_meta:  # torch refuses, because there is nothing to copy
            args = tuple(_META if isinstance(value, str | torch.device) else value for value in args)
            options = {name: _META if name == "device" else value for name, value in options.items()}
        if self._most is not None and func in _MAKERS:
            self._most.take(_elements(func, args, options))  # before there is too little memory
        return func(*args, **options)


def _is_filling(func: Callable[..., Any]) -> bool:
    """Return whether `func` fills a tensor, its first argument, with first values. On meta, that imports torch's compiler."""
    return func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init"


def _elements(func: Callable[..., Tensor], args: tuple[Any, ...], options: dict[str, Any]) -> int:
    """Return how many elements `func` would make. Asking torch on meta can import its compiler, which takes seconds."""
    if func is torch.arange:
        return _numbers(*args, **options)
    if func is torch.outer:
        given = [*args, *(options[name] for name in ("input", "vec2") if name in options)]
        return math.prod(value.numel() for value in given)
    size = {"size": options["size"]} if "size" in options else {}
    return torch.empty(*(args[:1] if func is torch.full else args), **size, device=_META).numel()


def _numbers(*bounds: float, start: float = 0, end: float | None = None, step: float = 1, **_: Any) -> int:
    """Return how many numbers `torch.arange` makes of these arguments."""
    if end is not None:
        bounds = (*bounds, end) if bounds else (start, end)
    first, last, width = {1: (start, *bounds, step), 2: (*bounds, step)}.get(len(bounds), bounds)
    return max(0, math.ceil((last - first) / width))
