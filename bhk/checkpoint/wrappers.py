"""Finding the state dict within everything that a trainer saved with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bhk.base.errors import listed, option, shown
from bhk.base.texts import counted
from bhk.checkpoint.contents import not_dense
from bhk.checkpoint.errors import (
    AmbiguousCheckpointError,
    NotACheckpointError,
    UnknownWeightsError,
)
from bhk.checkpoint.pickles import NoTensor, StandIn

_KNOWN = frozenset(
    {"model", "state_dict", "model_state_dict", "model_state", "module", "net", "network", "weights", "params"}
    | {"ema", "model_ema", "ema_model", "ema_state_dict", "teacher", "student", "sam", "sam_model"}
)
_TRAINING = re.compile(
    r"optim|sched|scaler|rng|random_state|callback|^loops$|hyper_?param|^args$|config|criterion", re.I
)
_TOP = "."


@dataclass(frozen=True)
class StateDict:
    """A state dict and its place: tensors by name, with groups merged, and what else was there, in words."""

    tensors: dict[str, torch.Tensor]
    wrapper: tuple[str, ...]
    groups: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    path: tuple[str, ...]
    groups: tuple[str, ...]
    names: frozenset[str]
    start: str = ""  # how the names of the tensors begin; others beside them are left out

    @property
    def key(self) -> str:
        return ".".join(self.path) or _TOP

    def __str__(self) -> str:
        return f"{self.key} ({counted(len(self.names), 'tensor')})"


def find_state_dict(top: object, key: str | None, where: str) -> StateDict:
    """Return the state dict in `top`, the content of the file `where`.

    If there are several, `key` selects one: the keys from the top joined by dots, or a prefix of names that ends before a dot.
    "." means the tensors at the top itself, or else all dictionaries of tensors there together, as groups.
    Several dictionaries of tensors whose keys are unknown and whose names differ are taken for the parts of one model: groups.

    Raises:
        NotACheckpointError: there are no named tensors.
        AmbiguousCheckpointError: there are several state dicts and no `key`.
        UnknownWeightsError: `key` leads to no state dict.
    """
    if not isinstance(top, dict):
        raise NotACheckpointError(
            f"{where} holds a {type(top).__name__}, not weights with names; save model.state_dict() instead"
        )
    candidates = _search(top, (), set())
    if key is not None:
        candidates = _select(top, key, candidates, where)
    if not candidates:
        beside = listed(_describe(name, value) for name, value in top.items()) or "nothing"
        advice = "; save model.state_dict(), because bhk makes no objects" if _stand_ins(top) else ""
        raise NotACheckpointError(
            f"{where} holds no model weights (found: {beside}); expected tensors with names{advice}"
        )
    if len(candidates) > 1:
        raise AmbiguousCheckpointError(
            f"{where} holds several sets of weights: {listed(candidates)}; choose one with {option('key')}",
            tuple(candidate.key for candidate in candidates),
        )
    return _take(top, candidates[0])


def _search(node: dict[object, object], path: tuple[str, ...], seen: set[int]) -> list[_Candidate]:
    """Return the state dicts at and below `node`. Each dictionary is visited once, because a pickle may have cycles."""
    if id(node) in seen or len(path) > 8:
        return []
    seen.add(id(node))
    below = [
        candidate
        for name, value in node.items()
        if isinstance(name, str) and isinstance(value, dict) and not _is_training_state(name, value)
        for candidate in _search(value, (*path, name), seen)
    ]
    known = [candidate for candidate in below if candidate.path[len(path)] in _KNOWN]
    if known:
        return known
    own = {name: value for name, value in node.items() if isinstance(name, str) and _is_tensor(value)}
    # Scalars next to a state dict are counters such as "step", not weights.
    if own and not (below and all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in own.values())):
        return [_Candidate(path, (), frozenset(own)), *below]
    if len(below) > 1 and _are_parts(node, below, path):
        groups = tuple(candidate.path[-1] for candidate in below)
        return [_Candidate(path, groups, frozenset(f"{c.path[-1]}.{name}" for c in below for name in c.names))]
    return below


def _are_parts(node: dict[object, object], below: list[_Candidate], path: tuple[str, ...]) -> bool:
    """Return whether every entry of `node` is a separate state dict, and none a second version of another."""
    plain = all(len(c.path) == len(path) + 1 and not c.groups and "." not in c.path[-1] for c in below)
    return plain and len(below) == len(node) and len({c.names for c in below}) == len(below)


def _is_training_state(name: str, value: dict[object, object]) -> bool:
    return bool(_TRAINING.search(name)) or {"state", "param_groups"} <= value.keys() or name.endswith("_extra_state")


def _select(top: dict[object, object], key: str, candidates: list[_Candidate], where: str) -> list[_Candidate]:
    exact = [candidate for candidate in candidates if candidate.key == key]
    if exact:
        return exact
    if key == _TOP and (groups := _groups(top)):
        return [
            _Candidate((), tuple(groups), frozenset(f"{group}.{name}" for group in groups for name in groups[group]))
        ]
    node, path, rest = top, (), key
    while rest:
        step = next((name for name in _dicts(node) if rest == name or rest.startswith(name + ".")), None)
        if step is None:
            if below := [
                name for name, value in node.items() if _is_tensor(value) and str(name).startswith(f"{rest}.")
            ]:
                return [_Candidate(path, (), frozenset(map(str, below)), f"{rest}.")]
            choices = listed(candidates) or "none"
            raise UnknownWeightsError(f"{where} has no weights under the key {shown(key)!r}; it has: {choices}")
        node, path, rest = node[step], (*path, step), rest[len(step) + 1 :]  # type: ignore[assignment]
    return _search(node, path, set())


def _groups(top: dict[object, object]) -> dict[str, list[str]]:
    """Return the names of the tensors in each dictionary of tensors directly below the top."""
    found = {
        name: [str(key) for key, value in top[name].items() if _is_tensor(value)]  # type: ignore[attr-defined]
        for name in _dicts(top)
        if "." not in name and not _is_training_state(name, top[name])  # type: ignore[arg-type]
    }
    return {name: names for name, names in found.items() if names}


def _dicts(node: dict[object, object]) -> Iterator[str]:
    return (name for name, value in node.items() if isinstance(name, str) and isinstance(value, dict))


def _take(top: dict[object, object], candidate: _Candidate) -> StateDict:
    left_out: list[str] = []
    node: dict[object, object] = top
    for step in candidate.path:
        left_out += [_describe(name, value) for name, value in node.items() if name != step]
        node = node[step]  # type: ignore[assignment]
    if candidate.groups:
        left_out += [_describe(name, value) for name, value in node.items() if name not in candidate.groups]
    tensors: dict[str, torch.Tensor] = {}
    for group in candidate.groups or (None,):
        part: dict[object, object] = node if group is None else node[group]  # type: ignore[assignment]
        others = [name for name in part if not str(name).startswith(candidate.start)]
        if others:
            left_out.append(
                f"{counted(len(others), 'tensor')} whose names do not start with {shown(candidate.start, 60)}"
            )
        for name, value in part.items():
            if not str(name).startswith(candidate.start):
                continue
            if isinstance(value, NoTensor):
                raise not_dense(str(name), value.fault)
            if isinstance(name, str) and isinstance(value, torch.Tensor):
                tensors[name if group is None else f"{group}.{name}"] = value
            else:
                left_out.append(_describe(name, value))
    return StateDict(tensors, candidate.path, candidate.groups, tuple(left_out))


def _describe(name: object, value: object) -> str:
    """Return a description of an entry of a checkpoint for the user, such as "optimizer (state of 594 tensors)"."""
    words = shown(name, 60)
    if isinstance(value, dict) and isinstance(value.get("state"), dict) and "param_groups" in value:
        return f"{words} (state of {counted(len(value['state']), 'tensor')})"
    if _is_tensor(value):
        return f"{words} (a tensor)"
    count = _count(value)
    details = [shown(value.kind, 60)] if isinstance(value, StandIn) else []
    details += [counted(count, "tensor")] if count else []
    return f"{words} ({', '.join(details)})" if details else words


def _count(value: object) -> int:
    """Return the number of tensors anywhere in `value`; each container is visited once."""
    total, waiting, seen = 0, [value], set[int]()
    while waiting:
        item = waiting.pop()
        if _is_tensor(item):
            total += 1
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
            waiting.extend(item.parts if isinstance(item, StandIn) else ())
    return total


def _stand_ins(node: dict[object, object]) -> bool:
    return any(isinstance(value, StandIn) for value in node.values())


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor | NoTensor)
