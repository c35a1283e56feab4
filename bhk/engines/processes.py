"""Processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, cast

import torch

from bhk.base.errors import BhkError, option
from bhk.base.memory import NOT_ENOUGH, is_memory_error
from bhk.engines.engine import Result, Shard
from bhk.engines.errors import WorkerError

_SAFE_PATH = "PYTHONSAFEPATH"


@dataclass(frozen=True)
class Processes:
    """Computes shards in `count` processes, or in this one if that is enough.

    They are spawned, so scripts need `if __name__ == "__main__":`. In this process, errors of `work` pass through.

    Attributes:
        count: number of processes.
        threads: CPU threads of torch in each. With one, results do not depend on `count`.
    """

    count: int
    threads: int = 1

    def compute(
        self, work: Callable[[Shard], Result], shards: Sequence[Shard], wanted: Sequence[int]
    ) -> Generator[tuple[int, Result | WorkerError], None, None]:
        """See `bhk.engines.engine.Engine`."""
        if min(self.count, len(wanted)) > 1:
            yield from _by_processes(work, shards, wanted, self)
            return
        for index in wanted:
            with _threads(self.threads):
                found = work(shards[index])
            yield index, found


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Process:
    """A process that computes shards, one at a time.

    One pipe per process instead of a pool: a pool waits forever for a process that the system killed, and leaves orphans
    when it is killed itself. With pipes, each side notices when the other is gone.

    Attributes:
        pipe: the end of its pipe that is here.
        process: the process.
        index: the shard that it computes.
    """

    def __init__(self, work: Callable[[Any], object], threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(there, work, threads), daemon=True)
        self.index = -1
        self.process.start()
        there.close()

    def send(self, index: int, shard: object) -> None:
        """Give it a shard. If it has ended, `received` says so."""
        self.index = index
        with contextlib.suppress(OSError):
            self.pipe.send(shard)

    def received(self) -> tuple[Any, bool]:
        """Return the result or the error, and whether the process is still there."""
        try:
            found, error = self.pipe.recv()
        except (EOFError, OSError):
            lost = f"a worker process was killed; if memory ran out, use fewer {option('workers')}"
            return WorkerError(lost), False
        return (found if error is None else WorkerError(error)), True


def _by_processes(
    work: Callable[[Shard], Result], shards: Sequence[Shard], wanted: Sequence[int], engine: Processes
) -> Generator[tuple[int, Result | WorkerError], None, None]:
    """Compute in processes; each gets its next shard when it has returned a result, and one that was lost is replaced."""
    waiting = iter(wanted)
    started: list[_Process] = []
    busy: dict[Connection, _Process] = {}

    def give_next(process: _Process | None) -> None:
        if (index := next(waiting, None)) is None:
            return
        if process is None:
            with _no_interrupts(), _no_modules_from_here():
                started.append(process := _Process(work, engine.threads))
        busy[process.pipe] = process
        process.send(index, shards[index])

    try:
        for _ in range(min(engine.count, len(wanted))):
            give_next(None)
        while busy:
            for pipe in cast("list[Connection]", wait(list(busy))):
                process = busy.pop(pipe)
                found, is_there = process.received()
                yield process.index, found
                give_next(process if is_there else None)
    finally:
        for process in started:
            process.process.terminate()
        for process in started:
            process.process.join()


@contextlib.contextmanager
def _no_modules_from_here() -> Iterator[None]:
    """Let processes started meanwhile not look for modules in the current folder, where a stranger's may lie.

    Python older than 3.11 does so all the same.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Delay Ctrl-C here and block it in processes started meanwhile: this process ends them, and they must not print."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Callable[[Any], object], threads: int) -> None:
    """Process shards until the other side is gone."""
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(_attempt(work, connection.recv()))


def _attempt(work: Callable[[Any], object], shard: object) -> tuple[object, str | None]:
    """Return the result, or the error as text, because not every error can be pickled."""
    try:
        return work(shard), None
    except BhkError as error:
        return None, error.marked
    except Exception as error:
        if is_memory_error(error):
            return None, NOT_ENOUGH
        return None, traceback.format_exc()
