"""Explanations in words, for the case that the names in a .bhk file differ from those of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from torch import nn

from bhk.base.texts import counted
from bhk.checkpoint.computed import computed_weights
from bhk.container.header import ModelEntry
from bhk.nn.coded import CodedWeight


def find_prefix(names: Collection[str], wanted: Collection[str]) -> str | None:
    """Return the prefix behind which `names` hold the names `wanted`, or None if it fits fewer than half of them."""
    known = set(wanted)
    prefixes = Counter(prefix for name in names for prefix, rest in _splits(name) if rest in known)
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
    return prefix if count and 2 * count >= len(known) else None


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield every (prefix, rest) of a dotted name; the prefix is empty or ends with a dot."""
    at = 0
    while True:
        yield name[:at], name[at:]
        dot = name.find(".", at)
        if dot < 0:
            return
        at = dot + 1


def diagnose(
    model: nn.Module, in_file: Collection[str], in_model: Collection[str], prefix: str, entry: ModelEntry | None
) -> list[str]:
    """Return reasons why the names in a file may differ from those in `model`, with what to do.

    Args:
        prefix: the prefix that the caller gave for the file's names.
        entry: what the file says about its model.
    """
    found = []
    if held := sum(isinstance(module, CodedWeight) for module in model.modules()):
        found.append(f"{held} of the model's layers already hold codes; build a new model for another file")
    better = find_prefix(in_file, in_model)
    if better is not None and better != prefix:
        found.append(f"the names in the file start with {better!r}; pass prefix={better!r}")
    if wrapper := find_prefix(in_model, [name.removeprefix(prefix) for name in in_file]):
        inner = wrapper.rstrip(".")
        found.append(f"the model's names start with {wrapper!r}; load into model.get_submodule({inner!r})")
    computed = computed_weights({name.removeprefix(prefix) for name in in_file})
    if calls := [call for weight, call in computed.items() if weight in set(in_model)]:
        found.append(
            f"the file holds, instead of {counted(len(calls), 'weight')}, what torch computes them from; call "
            f"{' or '.join(dict.fromkeys(calls))} for each layer of the original, and convert it again"
        )
    if entry is not None:
        found.append(f"the file holds the model {entry.variant or entry.family}")
    return found
