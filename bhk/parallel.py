"""Work on many tensors at once, results in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from bhk.errors import BhkError

Item = TypeVar("Item")
Result = TypeVar("Result")


class ThreadsError(BhkError):
    """A number of threads that is not positive."""


def worker_count(threads: int | None) -> int:
    """Return `threads`, or for None the number of cores this process may use.

    Raises:
        ThreadsError: `threads` is not positive.
    """
    if threads is not None:
        if threads < 1:
            raise ThreadsError(f"{threads} threads were asked for; give 1 or more, or none for one a core")
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `work(item)` of each item in order, computed on `threads` threads, at most threads + 1 results ahead.

    Each thread runs torch on one core: whole tensors side by side scale where the threads inside one operation do not,
    and sums come out the same whatever `threads` is.
    """
    pending: deque[Future[Result]] = deque()
    with _one_torch_thread_each:
        pool = ThreadPoolExecutor(threads, "bhk", initializer=torch.set_num_threads, initargs=(1,))
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _ThreadSetting:
    """Restores torch's number of threads when the last of several users is done.

    Setting it in a worker changes it for that thread, and for every thread that anybody starts later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = torch.get_num_threads()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                torch.set_num_threads(self._before)


_one_torch_thread_each = _ThreadSetting()
