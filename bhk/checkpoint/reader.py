"""Reading a checkpoint of any format, from a file, a folder or the Hub: `read`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from bhk.base.errors import shown
from bhk.base.limits import check_expansion
from bhk.base.texts import redact
from bhk.checkpoint import safetensors_file, torch_file
from bhk.checkpoint.archive import unpacked
from bhk.checkpoint.contents import Checkpoint, Source, untie
from bhk.checkpoint.errors import (
    CheckpointNotFoundError,
    NotACheckpointError,
    UnreadableCheckpointError,
)
from bhk.checkpoint.folder import INDEX_SUFFIX, pick
from bhk.checkpoint.hub import fetch
from bhk.checkpoint.identify import Kind, identify
from bhk.checkpoint.layout import Layout, common_prefix
from bhk.checkpoint.mapped import MappedFile
from bhk.checkpoint.shards import check_whole, load_shards, read_index, shard_files
from bhk.checkpoint.wrappers import StateDict, find_state_dict
from bhk.hub.address import SCHEME, is_address, looks_like_repository, parse_address


def read(source: str | os.PathLike[str], *, key: str | None = None) -> Checkpoint:
    """Return the weights at `source`, mapped from the file where its format allows it.

    No code in a file is ever run.

    Args:
        source: a .pth, .pt or .bin file of torch.save, a .safetensors file, a zip file with one of them inside, an index of
            shards, a folder with any of these, or a place on the Hugging Face Hub: `user/repo` or
            `hf://user/repo[/path/in/repo][@revision]`. Files are identified by their content, not by their suffix.
        key: selects one of several sets of weights: the keys from the top of the file joined by dots ("." for tensors at
            the top itself), or the name of a checkpoint in a zip file.

    Raises:
        HubError: the Hub did not deliver the checkpoint.
        CheckpointError: the checkpoint cannot be read; the subclass and the message say why.
        ChangedError: a file was changed while it was read.
        TooLargeError: a small file stands for gigabytes.
    """
    name, label, path = _locate(os.fsdecode(source))
    others: tuple[str, ...] = ()
    index: Path | None = None
    if path.is_dir():
        picked = pick(_file_names(path), label)
        path, others = path / picked.name, picked.others
        label = str(path)
    if path.name.endswith(INDEX_SUFFIX) and path.is_file():
        stamped = [MappedFile.before_reading(path)]
        index, weight_map = path, read_index(path)
        files = shard_files(path, weight_map)
        stamped += map(MappedFile.before_reading, files)
        content: object = load_shards(path, weight_map, _load_shard)
    else:
        check_whole(path, label)
        stamped = [MappedFile.before_reading(path)]
        content, key = _load_file(path, label, key)
        files = (path,)
    state = find_state_dict(content, key, label)
    mapped = tuple(file.mapped() for file in stamped)
    return _checkpoint(
        state, Source(name, files, index, mapped), tuple(f"{other} (another file in the folder)" for other in others)
    )


def of_module(module: nn.Module) -> Checkpoint:
    """Return the state dict of a module in the form of a checkpoint; its tensors share the module's memory.

    Raises:
        UnsupportedTensorError: a tensor does not have plain dense data.
    """
    tensors, aliases = untie(module.state_dict().items())
    on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
    buffers = frozenset(name for name, _ in module.named_buffers(remove_duplicate=False))
    return Checkpoint(on_cpu, aliases, Layout(), Source(type(module).__name__, ()), (), buffers & tensors.keys())


def _locate(text: str) -> tuple[str, str, Path]:
    """Return the name of a source, its name in error messages, and its file or folder on this machine."""
    if not text:
        raise CheckpointNotFoundError("the name of the file is empty; is a variable not set?")
    shown_text = redact(shown(text, 300))
    if is_address(text):
        return shown_text, shown_text, fetch(parse_address(text))
    path = Path(text)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not looks_like_repository(text):
            raise CheckpointNotFoundError(
                f"{shown_text} does not exist; check the name, or use {SCHEME}user/repo for the Hub"
            ) from None
        return text, text, fetch(parse_address(text))
    except (OSError, ValueError) as error:
        raise UnreadableCheckpointError(
            f"cannot read {shown_text}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return path.name or path.resolve().name, text, path


def _file_names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if entry.is_file()]
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {folder}: {error.strerror or error}") from error


def _load_file(path: Path, label: str, key: str | None) -> tuple[object, str | None]:
    """Return the content of a file, and the part of `key` that has not been used."""
    with contextlib.ExitStack() as stack:
        kind = identify(path, label)
        if kind is Kind.ZIP:
            path, label, key = stack.enter_context(unpacked(path, key))
            kind = identify(path, label)
            if kind is Kind.ZIP:
                raise NotACheckpointError(f"{label} is a zip file in a zip file; unpack it first")
        return _load(path, kind, label), key


def _load(path: Path, kind: Kind, label: str) -> object:
    return safetensors_file.load(path, label) if kind is Kind.SAFETENSORS else torch_file.load(path, kind, label)


def _load_shard(path: Path) -> dict[str, torch.Tensor]:
    label = str(path)
    return find_state_dict(_load(path, identify(path, label), label), ".", label).tensors


def _checkpoint(state: StateDict, source: Source, others: tuple[str, ...]) -> Checkpoint:
    """Return the state dict without the common prefix of its names, which is kept in the layout."""
    keys = [name.partition(".")[2] if state.groups else name for name in state.tensors]
    layout = Layout(state.wrapper, state.groups, common_prefix(keys))
    tensors, aliases = untie((_strip(name, layout), tensor) for name, tensor in state.tensors.items())
    _check_sizes(tensors, source)
    return Checkpoint(tensors, aliases, layout, source, state.left_out + others)


def _check_sizes(tensors: Mapping[str, torch.Tensor], source: Source) -> None:
    """Check that the tensors are not much larger than their files: one value may stand for a whole tensor."""
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    largest = max(sizes, key=sizes.__getitem__, default="")
    check_expansion(f"{source.name}, whose largest tensor is {shown(largest)!r},", sum(sizes.values()), source.size)


def _strip(name: str, layout: Layout) -> str:
    if not layout.groups:
        return name[len(layout.prefix) :]
    group, _, rest = name.partition(".")
    return f"{group}.{rest[len(layout.prefix) :]}"
