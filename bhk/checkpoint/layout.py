"""The nesting and prefixes of the tensors in a checkpoint, so that they can be put back."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from bhk.checkpoint.errors import LayoutError
from bhk.container.header_text import MAX_DEPTH
from bhk.container.validate import MAX_NAME_BYTES

_TRAINER_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)  # the same, Lightning, FSDP, activation checkpointing
_KEY = "checkpoint."


@dataclass(frozen=True)
class Layout:
    """How the tensors were nested in the file.

    Attributes:
        wrapper: keys from the top of the file to the state dict, such as ("model",).
        groups: dictionaries at that place that were merged into one; the names of their tensors start with the group's
            name and a dot. A group's own name has no dot.
        prefix: removed from every name on reading and added on writing; with groups, it follows the group's dot.
        wrapped: modules within the model that a trainer had wrapped, as they were called, such as "encoder._orig_mod"; on
            reading, the wrappers are removed from the names below. The prefix comes before them.
    """

    wrapper: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    prefix: str = ""
    wrapped: tuple[str, ...] = ()

    def to_metadata(self) -> dict[str, str]:
        """Return the layout as string pairs (`checkpoint.wrapper`, …), without empty fields."""
        fields = {}
        if self.wrapper:
            fields[_KEY + "wrapper"] = json.dumps(self.wrapper)
        if self.groups:
            fields[_KEY + "groups"] = json.dumps(self.groups)
        if self.prefix:
            fields[_KEY + "prefix"] = self.prefix
        if self.wrapped:
            fields[_KEY + "wrapped"] = json.dumps(self.wrapped)
        return fields

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Layout:
        """Return the layout from the entries that `to_metadata` wrote; other keys of `metadata` are ignored.

        Raises:
            LayoutError: an entry is invalid.
        """
        groups, wrapper, wrapped = (_names(metadata, field) for field in ("groups", "wrapper", "wrapped"))
        prefix = metadata.get(_KEY + "prefix", "")
        for text in (*groups, *wrapper, *wrapped, prefix):  # each stands before every name
            if len(text) > MAX_NAME_BYTES:
                raise LayoutError(
                    f"metadata {_KEY}… holds a name of {len(text):,} characters; expected {MAX_NAME_BYTES:,}"
                )
        if len(wrapper) > MAX_DEPTH:
            raise LayoutError(f"metadata {_KEY}wrapper holds {len(wrapper):,} keys; expected at most {MAX_DEPTH}")
        if any("." in group for group in groups) or len(set(groups)) < len(groups):
            raise LayoutError(f"metadata {_KEY}groups holds {groups}; expected different names without dots")
        return cls(wrapper, groups, prefix, wrapped)

    def split(self, name: str) -> tuple[str | None, str]:
        """Return the group of a tensor (None without groups), and its key in the group with the prefix.

        Raises:
            LayoutError: there are groups, but `name` does not start with one.
        """
        if not self.groups:
            return None, self.prefix + self._rewrapped(name)
        group, dot, rest = name.partition(".")
        if not dot or group not in self.groups:
            raise LayoutError(
                f"tensor {name!r} is in no group; expected a name that starts with one of {', '.join(self.groups)}"
            )
        return group, self.prefix + self._rewrapped(rest)

    def _rewrapped(self, name: str) -> str:
        """Return a name with the wrappers of the innermost module that it is below."""
        for clean, module in self._modules:
            if name.startswith(f"{clean}."):
                return module + name[len(clean) :]
        return name

    @functools.cached_property
    def _modules(self) -> list[tuple[str, str]]:
        """Wrapped modules without and with their wrappers, the innermost first."""
        return sorted(((unwrapped(module), module) for module in self.wrapped), key=lambda pair: -len(pair[0]))

    def flat(self, name: str) -> str:
        """Return the name of a tensor in a file without nesting."""
        group, key = self.split(name)
        return key if group is None else f"{group}.{key}"


def unwrapped(name: str) -> str:
    """Return the name of a module or tensor without the wrappers of trainers."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def wrapped_modules(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the modules that end in a wrapper, as `Layout.wrapped` has them."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for end in (place + 1 for place, part in enumerate(parts) if part in _WRAPPERS):
            found[".".join(parts[:end])] = None
    return tuple(found)


def _names(metadata: Mapping[str, str], field: str) -> tuple[str, ...]:
    text = metadata.get(_KEY + field)
    if text is None:
        return ()
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise LayoutError(f"metadata {_KEY}{field} is not JSON; expected an array of strings") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LayoutError(f'metadata {_KEY}{field} is not a JSON array of strings; expected one such as ["model"]')
    return tuple(value)


def common_prefix(names: Collection[str]) -> str:
    """Return the prefix that trainers put before all `names`: any repetition of `module.` and `_orig_mod.`."""
    prefix = ""
    while names:
        longer = next((prefix + p for p in _TRAINER_PREFIXES if all(_carries(n, prefix + p) for n in names)), None)
        if longer is None:
            break
        prefix = longer
    return prefix


def _carries(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and len(name) > len(prefix)
