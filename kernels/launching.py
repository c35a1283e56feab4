"""Launching Triton kernels with little work on the host.

`kernel[grid](...)` looks at each argument to find the compiled kernel, reads settings and checks globals; with it a call of a
coded layer takes about twice as long on the host (`tools/bench/host_time.py`), and a small layer of SAM takes no longer on a
card. A `Launcher` keeps what was compiled under what Triton tells kernels apart by, and launches that:
`compiled[grid](*arguments)`, as in Triton's tutorials.
"""

from __future__ import annotations

from typing import Any

import triton
from torch import Tensor

# Since then compiled kernels take compile-time constants among their arguments; that they do was checked from 3.6 on.
_TAKES_CONSTANTS = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 6)
_ALIGNMENT = 16  # bytes; Triton compiles other code for addresses that it does not divide


class Launcher:
    """Launches one kernel on the current device.

    Its parameters are tensors, then numbers, those that Triton is not to specialise for last, and then constants.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._compiled: dict[tuple[object, ...], Any] = {}
        params = getattr(kernel, "params", None)  # there are none where kernels are interpreted
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
            tensors: the first on the current device.
            constants: by name, in the order of the kernel's parameters.
            options: of the compiler, such as num_warps.
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
