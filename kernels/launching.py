"""Launching Triton kernels with little work on the host.

`kernel[grid](...)` inspects each argument to find the compiled kernel, reads settings and checks globals. That doubles the
host time of a coded layer's call (`tools/bench/host_time.py`), which for a small layer of SAM is longer than its work on the
GPU. A `Launcher` keeps compiled kernels under a key of everything by which Triton tells them apart, and launches them by
`compiled[grid](*arguments)`, as in Triton's tutorials.
"""

from __future__ import annotations

from typing import Any

import triton
from torch import Tensor

# From this version on, compiled kernels take compile-time constants among their arguments; older ones were not checked.
_TAKES_CONSTANTS = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 6)
_ALIGNMENT = 16  # bytes; Triton compiles other code for addresses that are not multiples of this


class Launcher:
    """Launches one kernel on the current device.

    The kernel's parameters must be tensors first, then numbers (those in `do_not_specialize` last), then constants.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._compiled: dict[tuple[object, ...], Any] = {}
        params = getattr(kernel, "params", None)  # an interpreted kernel has none
        self._is_quick = params is not None and _TAKES_CONSTANTS
        self._loose = sum(param.do_not_specialize for param in params or ())
        self._constants = [param.name for param in params or () if param.is_constexpr]

    def __call__(
        self,
        grid: tuple[int, int, int],
        tensors: tuple[Tensor | None, ...],
        numbers: tuple[int, ...],
        constants: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        """Launch a grid of programs.

        Args:
            tensors: on the current device; None for an operand that the kernel does not read.
            constants: compile-time constants by name, in the order of the kernel's parameters.
            options: options of the compiler, such as num_warps.
        """
        addresses, dtypes = 0, list[object]()
        for tensor in tensors:
            if tensor is None:
                dtypes.append(None)
            else:
                addresses |= tensor.data_ptr()
                dtypes.append(tensor.dtype)
        if not self._is_quick or addresses % _ALIGNMENT:
            self._kernel[grid](*tensors, *numbers, **constants, **options)
            return
        special = numbers[: len(numbers) - self._loose]
        key = (tensors[0].device, *dtypes, *special, *constants.values(), *options.values())  # type: ignore[union-attr]
        compiled = self._compiled.get(key)
        if compiled is None:
            assert list(constants) == self._constants
            self._compiled[key] = self._kernel[grid](*tensors, *numbers, **constants, **options)
        else:
            compiled[grid](*tensors, *numbers, *constants.values())
