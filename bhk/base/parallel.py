"""Working on many tensors at once, with results in order."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar, cast

from bhk.base.errors import OptionError
from bhk.base.threads import ThreadStartError, Worker, receive

Item = TypeVar("Item")
Result = TypeVar("Result")

_Outcome: TypeAlias = "tuple[Result | None, BaseException | None]"
_Task: TypeAlias = "tuple[Item, SimpleQueue[_Outcome[Result]]]"
_Tasks: TypeAlias = "SimpleQueue[_Task[Item, Result] | None]"


class ThreadsError(OptionError):
    """The number of threads is not positive."""


def worker_count(threads: int | None) -> int:
    """Return `threads`, or the number of cores that this process may use for None.

    Raises:
        ThreadsError: `threads` is not positive.
    """
    if threads is not None:
        if threads < 1:
            raise ThreadsError(
                f"cannot work with {threads} threads; give 1 or more, or leave the number out for one per core"
            )
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield `work(item)` for each item in order, computed by `threads` threads, at most threads + 1 results ahead.

    Each thread runs torch on one core. Working on several tensors at once scales better than threads within one
    operation, and sums do not depend on `threads`.

    concurrent.futures is not used, because it takes its locks in Python code: when a signal raises an exception between
    taking a lock and noting that, the lock stays taken for ever (Ctrl-C did this in one of 50 conversions). A SimpleQueue
    works in one step.
    """
    tasks: _Tasks[Item, Result] = SimpleQueue()
    pending: deque[SimpleQueue[_Outcome[Result]]] = deque()
    workers: list[Worker] = []
    most = threads
    with _one_torch_thread_each:
        try:
            for item in items:
                if len(workers) < most:
                    try:
                        workers.append(Worker(partial(_serve, work, tasks)))
                    except ThreadStartError:
                        if not workers:
                            raise
                        most = len(workers)
                pending.append(SimpleQueue())
                tasks.put((item, pending[-1]))
                if len(pending) > threads + 1:
                    yield _result(pending.popleft(), *workers)
            while pending:
                yield _result(pending.popleft(), *workers)
        finally:
            with contextlib.suppress(Empty):
                while True:
                    tasks.get_nowait()
            for _ in range(threads):  # not len(workers): a thread may have been started but not yet appended
                tasks.put(None)
            for worker in workers:
                worker.join()


@contextlib.contextmanager
def background(work: Callable[[Callable[[], bool]], Result]) -> Iterator[Callable[[], Result]]:
    """Run `work(stopped)` in a thread while the block runs; yield a function that waits for its result.

    `stopped()` returns true once the block has ended. `work` should then end soon, because leaving the block waits for it.
    """
    outcome: SimpleQueue[_Outcome[Result]] = SimpleQueue()
    ended: list[bool] = []
    thread = Worker(lambda: outcome.put(_attempt(work, lambda: bool(ended))))
    try:
        yield lambda: _result(outcome, thread)
    finally:
        ended.append(True)
        thread.join()


def _torch() -> Any:
    """Return torch, or None where nothing has imported it: arrays are read without it."""
    return sys.modules.get("torch")


def _serve(work: Callable[[Item], Result], tasks: _Tasks[Item, Result]) -> None:
    if torch := _torch():
        torch.set_num_threads(1)
    while _answer(work, tasks.get()):
        pass


def _answer(work: Callable[[Item], Result], task: _Task[Item, Result] | None) -> bool:
    """Do one task. As a function of its own, it keeps no tensors alive while the worker waits for the next task."""
    if task is not None:
        item, outcome = task
        outcome.put(_attempt(work, item))
    return task is not None


def _attempt(work: Callable[[Item], Result], item: Item) -> _Outcome[Result]:
    try:
        return work(item), None
    except BaseException as error:
        return None, error


def _result(outcome: SimpleQueue[_Outcome[Result]], *workers: Worker) -> Result:
    value, error = receive(outcome, *workers)
    if error is None:
        return cast("Result", value)
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: a cycle


class _ThreadSetting:
    """Restores torch's number of threads when its last user is done.

    A worker that sets the number changes it for its own thread and for all threads that are started later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._before and (torch := _torch()):
                self._before = torch.get_num_threads()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._before and (torch := _torch()):
                torch.set_num_threads(self._before)
                self._before = 0


_one_torch_thread_each = _ThreadSetting()
