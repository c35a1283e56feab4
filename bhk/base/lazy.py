"""Public names that are imported when they are first used, so that `import bhk` needs neither torch nor numpy."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

_EXPORT = re.compile(r"^from (\S+) import (\w+) as (\w+)$", re.MULTILINE)


class LazyNames:
    """The names that a module exports, listed once, in the stub (.pyi) beside it that type checkers read, too.

    Args:
        module: name of the module, such as "bhk.errors".
        stub: file name of the stub in the package `bhk`; each line reads `from HOME import NAME as PUBLIC_NAME`.

    Attributes:
        names: the public names, in the order of the stub.
    """

    def __init__(self, module: str, stub: str) -> None:
        self._module = module
        text = (pkgutil.get_data("bhk", stub) or b"").decode()
        self._homes = {public: (home, name) for home, name, public in _EXPORT.findall(text)}
        self.names = [name for name, (home, _) in self._homes.items() if home != module]

    def __call__(self, name: str) -> Any:
        """Return what a name stands for: the module's `__getattr__`.

        Raises:
            AttributeError: the module exports no such name.
            MissingPackageError: it needs a package that is not installed.
        """
        if name not in self._homes:
            raise AttributeError(f"module {self._module!r} has no attribute {name!r}")
        from bhk.base.packages import explained_imports

        home, attribute = self._homes[name]
        with explained_imports():
            if home == self._module:  # a module below it
                return importlib.import_module(f"{home}.{attribute}")
            return getattr(importlib.import_module(home), attribute)
