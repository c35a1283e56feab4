"""Fetching a checkpoint from the Hugging Face Hub, and only the files that belong to it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from bhk.base.names import WEIGHT_SUFFIXES
from bhk.checkpoint.companions import COMPANIONS, has_companions
from bhk.checkpoint.folder import INDEX_SUFFIX, pick
from bhk.checkpoint.shards import read_index
from bhk.checkpoint.terms import CARD, LICENSES
from bhk.checkpoint.tokenizer import TOKENIZER
from bhk.hub.address import Address
from bhk.hub.download import fetch_file, list_files
from bhk.hub.errors import HubFileNotFoundError, HubUnreachableError


def fetch(address: Address) -> Path:
    """Download the checkpoint at `address`, or find it in the cache, and return its local file (an index, if sharded).

    The repository's model card and license are downloaded too, and the companions and the tokenizer beside the checkpoint.

    Raises:
        HubError: missing, private or gated repository, no network, or no space. The message is one line without tokens.
        NotACheckpointError, AmbiguousCheckpointError: the repository holds no checkpoint, or several.
    """
    name = _choose(address)
    path = fetch_file(address, name)
    folder, slash, file = name.rpartition("/")
    if name.endswith(INDEX_SUFFIX):
        for shard in sorted(set(read_index(path).values())):
            fetch_file(address, folder + slash + shard)
    others = (*COMPANIONS, *TOKENIZER) if has_companions(file) else ()
    for other in (CARD, *LICENSES, *(folder + slash + beside for beside in others)):
        with contextlib.suppress(HubFileNotFoundError, HubUnreachableError):  # not in the cache either
            fetch_file(address, other)
    return path


def _choose(address: Address) -> str:
    """Return the path, within the repository, of the file to read."""
    if address.path is not None and address.path.endswith((*WEIGHT_SUFFIXES, INDEX_SUFFIX, ".zip")):
        return address.path
    names = list_files(address)
    if address.path in names:
        return address.path
    folder = f"{address.path}/" if address.path else ""
    inside = [name[len(folder) :] for name in names if name.startswith(folder) and "/" not in name[len(folder) :]]
    return folder + pick(inside, str(address.at(address.path and address.path.rstrip("/")))).name
