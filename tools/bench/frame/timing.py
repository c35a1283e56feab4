"""How benchmarks take time: on a CPU by the wall clock, on a GPU by CUDA events; what is compared takes turns."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Result = TypeVar("Result")
Pool = tuple[int, int]  # what torch.cuda.graph_pool_handle returns


def elapsed(call: Callable[[], object], device: str) -> float:
    """Return the seconds of one call; on a GPU from its first kernel to its last, gaps included."""
    if device == "cpu":
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def in_turn(
    calls: Mapping[str, Callable[[], object]], device: str, *, least: int = 3, most: int = 50, enough: float = 1.0
) -> dict[str, list[float]]:
    """Return the seconds of each call in every round. The calls take turns; call each once before, to warm up.

    Args:
        least, most: number of rounds.
        enough: seconds after which no round starts beyond the least.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    rounds = 0
    while rounds < least or (rounds < most and time.perf_counter() - started < enough):
        for name, call in calls.items():
            times[name].append(elapsed(call, device))
        rounds += 1
    return times


def alternate(
    calls: Mapping[str, Callable[[], object]], device: str, *, least: int = 3, most: int = 50, enough: float = 1.0
) -> dict[str, float]:
    """Return the median seconds of each call; see `in_turn`."""
    times = in_turn(calls, device, least=least, most=most, enough=enough)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def captured(work: Callable[[], Result], pool: Pool | None = None) -> Callable[[], Result]:
    """Call `work` twice to warm up, capture it as a CUDA graph, and return what replays the graph.

    Every replay returns what `work` returned at the capture, with new values in it.

    Args:
        pool: memory shared with other graphs, which must be replayed in the order of their capture.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = work()

    def replay() -> Result:
        graph.replay()
        return result

    return replay


@dataclass(frozen=True)
class Budget:
    """Seconds that work may take, counted from when this object is made.

    Attributes:
        clock: tells seconds since some moment.
    """

    seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.clock())

    @property
    def spent(self) -> float:
        """Seconds spent."""
        return self.clock() - self.started

    @property
    def left(self) -> float:
        """Seconds left; negative once they are overspent."""
        return self.seconds - self.spent

    def allows(self, expected: float) -> bool:
        """Tell whether work of `expected` seconds may start."""
        return expected <= self.left
