"""The public Python interface: what the reference describes and whose examples the tests run."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MODULES = ("bhk", "bhk.errors", "bhk.nn", "bhk.sam")


@dataclass(frozen=True)
class PublicName:
    """A public object and the name that users type for it.

    Attributes:
        name: such as "bhk.BhkFile.tensor".
        value: the object; for a property, its getter.
        kind: "module", "function", "class", "error", "method", "property" or "value".
    """

    name: str
    value: Any
    kind: str

    @property
    def docstring(self) -> str:
        """Its own docstring, "" if it has none."""
        return inspect.getdoc(self.value) or ""


def public_names() -> Iterator[PublicName]:
    """Yield every public module, function, class and method once, under the shortest of its names."""
    seen: list[Any] = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        yield PublicName(module_name, module, "module")
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(value) or any(value is other for other in seen):
                continue
            seen.append(value)
            yield from _with_members(f"{module_name}.{name}", value)


def _with_members(name: str, value: Any) -> Iterator[PublicName]:
    if not inspect.isclass(value):
        yield PublicName(name, value, "function" if inspect.isroutine(value) else "value")
        return
    yield PublicName(name, value, "error" if issubclass(value, BaseException) else "class")
    for member_name, member in vars(value).items():
        if member_name.startswith("_"):
            continue
        if isinstance(member, property):
            yield PublicName(f"{name}.{member_name}", member.fget, "property")
        elif isinstance(member, functools.cached_property):
            yield PublicName(f"{name}.{member_name}", member.func, "property")
        elif inspect.isroutine(getattr(value, member_name)):
            yield PublicName(f"{name}.{member_name}", getattr(value, member_name), "method")
