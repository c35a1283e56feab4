"""Finding the checkpoint among the files of a folder, or of a repository on the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bhk.base.errors import listed
from bhk.base.names import WEIGHT_SUFFIXES
from bhk.checkpoint.errors import AmbiguousCheckpointError, NotACheckpointError

INDEX_SUFFIX = ".index.json"

# Names that say that the folder is one checkpoint, in the order in which transformers searches.
STANDARD = (
    "model.safetensors",
    "model.safetensors" + INDEX_SUFFIX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX_SUFFIX,
)
_ENDINGS = (
    *WEIGHT_SUFFIXES,
    *(suffix + INDEX_SUFFIX for suffix in WEIGHT_SUFFIXES),
    *(suffix + ".zip" for suffix in WEIGHT_SUFFIXES),
)
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|pth|pt|bin)$")
_TRAINER_STATE = re.compile(r"^(optimizer|scheduler|scaler|training_args|rng_state\w*)\.(pt|pth|bin)$")


@dataclass(frozen=True)
class Pick:
    """The file to read (an index, if sharded), and the other checkpoint files in its folder."""

    name: str
    others: tuple[str, ...]


def checkpoints(names: Iterable[str]) -> tuple[str, ...]:
    """Return the checkpoints among file `names`: no shards, no states of a trainer, and of two formats safetensors only."""
    weights = [name for name in _whole(names) if not _TRAINER_STATE.match(name)]
    safe = {_stem(name) for name in weights if ".safetensors" in name}
    return tuple(name for name in weights if ".safetensors" in name or _stem(name) not in safe)


def pick(names: Iterable[str], where: str) -> Pick:
    """Return the checkpoint among the file `names` in the folder `where`.

    A standard name takes precedence, and safetensors over another format with the same name.

    Raises:
        NotACheckpointError: there is no checkpoint.
        AmbiguousCheckpointError: there are several, and nothing indicates that they hold the same weights.
    """
    present = _present(names)
    whole = _whole(present)
    if not whole:
        found = f"shards without an index ({listed(present)})" if present else "no checkpoint"
        raise NotACheckpointError(
            f"{where} holds {found}; expected model.safetensors, pytorch_model.bin, an index of shards or one .pth file"
        )
    weights = checkpoints(present)
    choice = next((name for name in STANDARD if name in weights), weights[0] if len(weights) == 1 else None)
    if choice is None:
        choices = weights or tuple(whole)
        raise AmbiguousCheckpointError(
            f"{where} holds several checkpoints: {listed(choices)}; name one of them", choices
        )
    return Pick(choice, tuple(name for name in whole if name != choice))


def _present(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(_ENDINGS) and not name.startswith("."))


def _whole(names: Iterable[str]) -> list[str]:
    return [name for name in _present(names) if not _SHARD.search(name)]


def _stem(name: str) -> str:
    return next(name[: -len(ending)] for ending in sorted(_ENDINGS, key=len, reverse=True) if name.endswith(ending))
