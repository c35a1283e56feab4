"""Working on many tensors at once, with results in order."""

from __future__ import annotations

import contextlib
import os
import sys
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
    operation, and sums do not depend on `threads`. All other threads, also those that are started meanwhile, keep their cores.

    concurrent.futures is not used, because it takes its locks in Python code: when a signal raises an exception between
    taking a lock and noting that, the lock stays taken for ever (Ctrl-C did this in one of 50 conversions). A SimpleQueue
    works in one step.
    """
    tasks: _Tasks[Item, Result] = SimpleQueue()
    pending: deque[SimpleQueue[_Outcome[Result]]] = deque()
    workers: list[Worker] = []
    most = threads
    torch = _torch()
    torch_threads = torch.get_num_threads() if torch else 0
    try:
        for item in items:
            if len(workers) < most:
                try:
                    ready: SimpleQueue[None] = SimpleQueue()
                    workers.append(Worker(partial(_serve, work, tasks, torch, ready)))
                    receive(ready, workers[-1])
                    _set_threads(torch, torch_threads)
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
        if workers:
            _set_threads(torch, torch_threads)


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


def _set_threads(torch: Any, number: int) -> None:
    """Set torch's number of threads: of this thread, and of all that have not used torch yet."""
    if torch:
        torch.get_num_threads()  # counts as use, after which other threads do not change the number of this one
        torch.set_num_threads(number)


def _serve(work: Callable[[Item], Result], tasks: _Tasks[Item, Result], torch: Any, ready: SimpleQueue[None]) -> None:
    _set_threads(torch, 1)
    ready.put(None)
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
