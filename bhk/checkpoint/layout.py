"""Where the tensors of a checkpoint sat, so that they can be put back."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bhk.checkpoint.errors import LayoutError

_TRAINER_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel, torch.compile
_KEY = "checkpoint."


@dataclass(frozen=True)
class Layout:
    """How the tensors sat in the file.

    Attributes:
        wrapper: keys from the top of the file to the state dict, such as ("model",).
        groups: dictionaries at that place that were merged into one name space; the names of their tensors start
            with the group and a dot. A group has no dot in its own name.
        prefix: stripped from every name when read, put back when written; with groups, it follows the group's dot.
    """

    wrapper: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    prefix: str = ""

    def to_metadata(self) -> dict[str, str]:
        """Return the layout as string pairs (`checkpoint.wrapper`, …), empty fields left out."""
        fields = {}
        if self.wrapper:
            fields[_KEY + "wrapper"] = json.dumps(self.wrapper)
        if self.groups:
            fields[_KEY + "groups"] = json.dumps(self.groups)
        if self.prefix:
            fields[_KEY + "prefix"] = self.prefix
        return fields

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Layout:
        """Return the layout that `to_metadata` described; other keys of `metadata` are ignored.

        Raises:
            LayoutError: a field is not what `to_metadata` writes.
        """
        groups = _names(metadata, "groups")
        if any("." in group for group in groups) or len(set(groups)) < len(groups):
            raise LayoutError(f"metadata {_KEY}groups holds {groups}; expected different names without dots")
        return cls(_names(metadata, "wrapper"), groups, metadata.get(_KEY + "prefix", ""))

    def split(self, name: str) -> tuple[str | None, str]:
        """Return the group of a tensor (None without groups) and its key inside, prefix put back.

        Raises:
            LayoutError: there are groups, and `name` starts with none of them.
        """
        if not self.groups:
            return None, self.prefix + name
        group, dot, rest = name.partition(".")
        if not dot or group not in self.groups:
            raise LayoutError(
                f"tensor {name!r} belongs to none of the groups {', '.join(self.groups)}; start its name with one"
            )
        return group, self.prefix + rest

    def flat(self, name: str) -> str:
        """Return the name of a tensor in a file that has no nesting."""
        group, key = self.split(name)
        return key if group is None else f"{group}.{key}"


def _names(metadata: Mapping[str, str], field: str) -> tuple[str, ...]:
    text = metadata.get(_KEY + field)
    if text is None:
        return ()
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise LayoutError(f"metadata {_KEY}{field} is no JSON; expected an array of strings") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LayoutError(f'metadata {_KEY}{field} is no JSON array of strings; expected one like ["model"]')
    return tuple(value)


def common_prefix(names: Collection[str]) -> str:
    """Return what trainers put before every one of `names`: any repetition of `module.` and `_orig_mod.`."""
    prefix = ""
    while names:
        longer = next((prefix + p for p in _TRAINER_PREFIXES if all(_carries(n, prefix + p) for n in names)), None)
        if longer is None:
            break
        prefix = longer
    return prefix


def _carries(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and len(name) > len(prefix)
