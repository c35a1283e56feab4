"""How long an evaluation takes on workers of unequal speed, some of which are lost: a simulation, task by task.

Work is given out in tasks of some shards. A worker that is free takes the next task. If it is lost, what is left of its task,
from the shard that it was at, waits for another worker, and the lost one does not come back. This is what Ray does with tasks
of one shard, and what an array of Slurm does with its parts if a part that was lost is run again at once.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Cluster:
    """Workers, of which the speeds and losses are drawn at random.

    Attributes:
        workers: how many.
        spread: standard deviation of the logarithm of their speeds.
        lost: the share of them that is lost, at any time until all would have ended.
        seed: equal seeds give equal clusters.
    """

    workers: int
    spread: float = 0.0
    lost: float = 0.0
    seed: int = 0

    def ended(self, shards: int, tasks: int, seconds: float) -> float:
        """Return the seconds until all shards are done.

        Args:
            shards: how many there are.
            tasks: in how many tasks they are given out.
            seconds: of a worker of speed 1 for a shard.
        """
        drawn = random.Random(self.seed)
        speeds = [math.exp(drawn.gauss(0, self.spread)) for _ in range(self.workers)]
        ideal = shards * seconds / sum(speeds)
        leaving = [math.inf] * self.workers
        for worker in drawn.sample(range(self.workers), round(self.lost * self.workers)):
            leaving[worker] = drawn.uniform(0, ideal)
        waiting = [(0.0, (index + 1) * shards // tasks - index * shards // tasks) for index in range(tasks)]
        free = [(0.0, worker) for worker in range(self.workers)]
        end = 0.0
        while waiting:
            (since, size), (time, worker) = heapq.heappop(waiting), heapq.heappop(free)
            start, each = max(since, time), seconds / speeds[worker]
            if start + size * each <= leaving[worker]:
                end = max(end, start + size * each)
                heapq.heappush(free, (start + size * each, worker))
            else:
                done = max(0, int((leaving[worker] - start) / each))
                heapq.heappush(waiting, (max(since, leaving[worker]), size - done))
        return end
