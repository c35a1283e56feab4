"""Where a conversion writes if the user names no file."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from torch import nn

from bhk.base.errors import option
from bhk.base.files import WriteError
from bhk.base.names import BHK_SUFFIX, CHECKPOINT_SUFFIXES
from bhk.checkpoint.folder import INDEX_SUFFIX
from bhk.hub.address import parse_address


def default_destination(src: str | os.PathLike[str] | nn.Module) -> Path:
    """Return the source's name with the suffix .bhk, beside it; for a Hub id, in the current folder.

    Raises:
        WriteError: the source is a module.
    """
    if isinstance(src, nn.Module):
        raise WriteError(
            f"a module such as {type(src).__name__} has no file to write beside; give the file to write as {option('out')}"
        )
    local = Path(src)
    if not local.exists():
        address = parse_address(os.fsdecode(src))
        return Path(_stem(PurePosixPath(address.path or address.repository).name) + BHK_SUFFIX)
    if local.is_dir():
        return local.parent / (local.resolve().name + BHK_SUFFIX)
    return local.with_name(_stem(local.name) + BHK_SUFFIX)


def _stem(name: str) -> str:
    stem = name.removesuffix(INDEX_SUFFIX)
    while (suffix := Path(stem).suffix) in CHECKPOINT_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem
