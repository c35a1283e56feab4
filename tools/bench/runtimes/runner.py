"""A side at work in a process of its own: `Worker(Runner, …)` to be timed, and `apart(first_mask, …)` from a cold start."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bhk.kernels.attention import rounds_to_bfloat16
from bhk.sam.attention.relative import RelativeAttention
from tools.bench.frame.memory import HostPeak, linear_bytes
from tools.bench.models.sam_parts import Features, Parts, random_image, random_points
from tools.bench.runtimes.sides import SIDES, Numbers

PROMPTS = 32
LINEAR = (torch.ops.aten.mm, torch.ops.aten.addmm)  # what linear layers call
CONVOLUTION = (torch.ops.aten.convolution,)

Arrays = tuple[NDArray[np.float32], ...]


def prepare(side: str, folder: Path) -> None:
    """Write the files that a side needs."""
    torch.set_grad_enabled(False)
    write = SIDES[side].prepare
    assert write is not None
    write(folder)


class Operations(NamedTuple):
    """Multiplications and additions of linear layers, attention and convolutions."""

    linear: int
    attention: int
    convolution: int


class Runner:
    """A side of one model, loaded, with an image and points; it has encoded the image once.

    Attributes:
        features: what it last found in the image.
        peaks: MiB by which the process has grown at most when the side was loaded, and when it had encoded the image.
    """

    def __init__(self, side: str, folder: Path, package: str, size: int) -> None:
        torch.set_grad_enabled(False)
        _import(side, package)
        self._side = side
        self._image, self._points = random_image(size), _points(PROMPTS, size)
        peak = HostPeak()
        self._encoder = SIDES[side].load(folder)
        loaded = peak.mib
        self.features: Features = self._encoder.encode(self._image)
        self.peaks = loaded, peak.mib

    def encode(self) -> None:
        """Encode the image."""
        self.features = self._encoder.encode(self._image)

    def ask(self, count: int) -> None:
        """Decode the masks of the first points."""
        self._masks(self.features, self._points[:count])

    def found(self) -> tuple[Arrays, tuple[float | None, float | None]]:
        """Return the features as float32, and the peaks."""
        return tuple(feature.float().numpy() for feature in self.features), self.peaks

    def masks(self, features: Arrays) -> NDArray[np.bool_]:
        """Return the masks of all points in these features, bool (prompts, 3, height, width)."""
        return (self._masks(tuple(map(torch.from_numpy, features)), self._points) > 0).numpy()

    def linear_bytes(self) -> int:
        """Return the bytes held for the weights of linear layers."""
        return linear_bytes(self._parts)

    def numbers(self) -> Numbers:
        """Return in which numbers the image encoder multiplies, once bhk has chosen those of its attention."""
        numbers, encoder = SIDES[self._side].numbers, getattr(self._encoder, "encoder", None)
        parts = encoder.modules() if isinstance(encoder, nn.Module) else ()
        is_rounded = any(isinstance(part, RelativeAttention) and part.compute == "int8" for part in parts)
        return numbers._replace(attention="bfloat16") if is_rounded and rounds_to_bfloat16() else numbers

    def operations(self) -> Operations:
        """Return what `operations` counts in dense's image encoder; it does not see into operators of bhk."""
        return operations(lambda: self._parts.encode(self._image))

    @property
    def _parts(self) -> Parts:
        assert isinstance(self._encoder, Parts)
        return self._encoder

    def _masks(self, features: Features, points: Tensor) -> Tensor:
        return self._parts.decode(self._parts.ask(features, points))[0]


@torch.no_grad()
def first_mask(side: str, folder: str, package: str, size: str, threads: str) -> Iterator[None]:
    """Load a whole model, encode an image, and ask for a mask; run in a process of its own."""
    torch.set_num_threads(int(threads))
    _import(side, package)
    image, point = random_image(int(size)), _points(1, int(size))
    yield
    model = SIDES[side].load(Path(folder))
    assert isinstance(model, Parts)
    model.decode(model.ask(model.encode(image), point))
    yield


def operations(call: Callable[[], object]) -> Operations:
    """Return the multiplications and additions of a call."""
    # The counter does not know the fused attention of CPUs.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    found = counter.get_flop_counts()["Global"]
    linear, convolution = (sum(found.get(operator, 0) for operator in kind) for kind in (LINEAR, CONVOLUTION))
    return Operations(linear, sum(found.values()) - linear - convolution, convolution)


def _import(side: str, package: str) -> None:
    for module in (package, SIDES[side].package):
        importlib.import_module(module)


def _points(count: int, size: int) -> Tensor:
    torch.manual_seed(0)
    return random_points(count, size, "cpu")
