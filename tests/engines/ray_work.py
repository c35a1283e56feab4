"""Work for the workers of a Ray cluster, which import it by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec
import torch

from bhk.evaluation.places import Place


class Sum(msgspec.Struct, frozen=True):
    total: int
    threads: int


def add(shard: tuple[int, ...]) -> Sum:
    return Sum(sum(shard), torch.get_num_threads())


def fail_once(shard: tuple[int, ...]) -> Sum:
    """Fail with the first attempt at the shard that begins with 2, as on a file system that comes back."""
    if _is_first_attempt(shard):
        raise OSError(5, "Input/output error")
    return add(shard)


def end_once(shard: tuple[int, ...]) -> Sum:
    """Kill this process at the first attempt at the shard that begins with 2."""
    if _is_first_attempt(shard):
        os.kill(os.getpid(), signal.SIGKILL)
    return add(shard)


def mark_node(shard: tuple[int, ...]) -> Sum:
    """Take a while, and leave a file that is named like the node."""
    import ray

    Path(f"on-{ray.get_runtime_context().get_node_id()}").touch()
    time.sleep(0.5)
    return add(shard)


def fail(shard: tuple[int, ...]) -> Sum:
    """Fail with the shard that begins with 2, and kill this process with the one that begins with 4."""
    if shard[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Sum(0, 1 // (shard[0] - 2))


def _is_first_attempt(shard: tuple[int, ...]) -> bool:
    mark = Path("attempted")
    if shard[0] != 2 or mark.exists():
        return False
    mark.touch()
    return True


def side(shard: tuple[Place, ...]) -> Sum:
    """Return the width of a picture."""
    time.sleep(0.2)
    return Sum(shard[0].pixels().shape[1], torch.get_num_threads())
