"""What computes shards: the interface that `bhk.engines.processes` and `bhk.engines.ray_cluster` share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from bhk.engines.errors import WorkerError

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class Engine(Protocol):
    """Computes shards, each of which is a pure function of its content."""

    def compute(
        self, work: Callable[[Shard], Result], shards: Sequence[Shard], wanted: Sequence[int]
    ) -> Generator[tuple[int, Result | WorkerError], None, None]:
        """Yield (index, `work(shards[index])`) for the wanted indices, as they are done.

        Each worker gets one copy of `work` and keeps it, so a callable object can load models with its first shard. In place
        of a result there may be an error: the worker failed or was lost. The others go on.
        """
        ...
