"""`read`: any checkpoint, from anywhere, as tensors with names."""

from __future__ import annotations

import os
from pathlib import Path

from bhk.checkpoint import safetensors_file, torch_file
from bhk.checkpoint.contents import Checkpoint, Source, untie
from bhk.checkpoint.identify import Kind, identify
from bhk.checkpoint.layout import Layout, common_prefix
from bhk.checkpoint.wrappers import StateDict, find_state_dict


def read(source: str | os.PathLike[str], *, key: str | None = None) -> Checkpoint:
    """Return the weights in the file at `source`; `key` settles which where it holds several sets."""
    path = Path(source)
    state = find_state_dict(_load(path), key, path.name)
    return _checkpoint(state, Source(path.name, (path,)))


def _load(path: Path) -> object:
    kind = identify(path)
    return safetensors_file.load(path) if kind is Kind.SAFETENSORS else torch_file.load(path, kind)


def _checkpoint(state: StateDict, source: Source) -> Checkpoint:
    """Return the state dict under its own names: what trainers put before all of them is kept in the layout."""
    keys = [name.partition(".")[2] if state.groups else name for name in state.tensors]
    layout = Layout(state.wrapper, state.groups, common_prefix(keys))
    named = ((_strip(name, layout), tensor) for name, tensor in state.tensors.items())
    tensors, aliases = untie(named)
    return Checkpoint(tensors, aliases, layout, source, state.left_out)


def _strip(name: str, layout: Layout) -> str:
    if not layout.groups:
        return name[len(layout.prefix) :]
    group, _, rest = name.partition(".")
    return f"{group}.{rest[len(layout.prefix) :]}"
