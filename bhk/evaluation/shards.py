"""Long work in shards: done by several processes, kept as it comes, and taken up again after an interruption."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from bhk.base.errors import BhkError
from bhk.base.workdir import WorkDir

Shard = TypeVar("Shard")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]


class WorkerError(BhkError):
    """A worker process failed, or ended before its work was done."""


def split(items: Sequence[Shard], size: int) -> list[tuple[Shard, ...]]:
    """Return the items in shards of `size`; the last one may be smaller."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def run_shards(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    result: type[Result],
    *,
    workers: int = 1,
    work_dir: Path | None = None,
    identity: Mapping[str, str],
    progress: Progress | None = None,
) -> list[Result]:
    """Return `work(shard)` of each shard, in order.

    Whatever `workers` is, torch computes on one CPU thread, so that results are the same.

    Args:
        work: its results depend on the shard alone. Every worker process gets one copy of it, which it keeps: what a
            callable object loads at its first shard is there for the others. With one worker, it is called here.
        result: the type of the results, which msgspec writes as JSON and reads back the same.
        workers: processes; they are spawned, so scripts that call this need `if __name__ == "__main__":`.
        work_dir: a folder, made if need be, that keeps the result of each shard; those it has are not computed again.
        identity: all that the results depend on, beside the shard's number; what a folder holds must have the same.
        progress: called with (shards done, all shards).

    Raises:
        WorkDirError: the folder holds results of other work, or what cannot be read.
        WorkerError: a worker process failed; the message is that of the error. With one worker, errors of `work` come
            as they are.
        WriteError: the folder cannot be written.
    """
    store = None if work_dir is None else WorkDir(work_dir)
    results: dict[int, Result] = {}
    if store:
        store.claim(identity)
        kept = ((index, store.read(_name(index), result)) for index in range(len(shards)))
        results = {index: found for index, found in kept if found is not None}
    missing = [index for index in range(len(shards)) if index not in results]
    if progress:
        progress(len(results), len(shards))
    with contextlib.closing(_compute(work, shards, missing, min(workers, len(missing)))) as computed:
        for index, found in computed:
            if store:
                store.write(_name(index), found)
            results[index] = found
            if progress:
                progress(len(results), len(shards))
    return [results[index] for index in range(len(shards))]


def _name(index: int) -> str:
    return f"shard-{index:06d}.json"


def _compute(
    work: Callable[[Shard], Result], shards: Sequence[Shard], missing: Sequence[int], workers: int
) -> Generator[tuple[int, Result], None, None]:
    """Yield (index, result) of the missing shards, in the order in which they are done."""
    if workers > 1:
        yield from _by_processes(work, shards, missing, workers)
        return
    for index in missing:
        with _one_thread():
            found = work(shards[index])
        yield index, found


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _by_processes(
    work: Callable[[Shard], Result], shards: Sequence[Shard], missing: Sequence[int], workers: int
) -> Generator[tuple[int, Result], None, None]:
    """Compute on processes; each gets the next shard when it has answered.

    A pipe a process, not a pool: a pool waits for ever for a process that the system killed, and leaves orphans when it
    is killed itself. Here either side sees the other's end close.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(missing)
    processes = []
    busy: dict[Connection, int] = {}
    try:
        for _, index in zip(range(workers), waiting, strict=False):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, work), daemon=True)
            with _no_interrupts():
                process.start()
                processes.append(process)
            there.close()
            _send(here, shards[index])
            busy[here] = index
        while busy:
            for here in cast("list[Connection]", wait(list(busy))):
                index = busy.pop(here)
                yield index, _received(here)
                if (following := next(waiting, None)) is not None:
                    _send(here, shards[following])
                    busy[here] = following
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Put off Ctrl-C, and for the processes started meanwhile for ever: it reaches all, and the first ends the others."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send(connection: Connection, shard: object) -> None:
    with _end_of_worker():
        connection.send(shard)


def _received(connection: Connection) -> Any:
    with _end_of_worker():
        found, error = connection.recv()
    if error is not None:
        raise WorkerError(error)
    return found


@contextlib.contextmanager
def _end_of_worker() -> Iterator[None]:
    """Say in words that the other end of a pipe is gone."""
    try:
        yield
    except (EOFError, OSError):
        raise WorkerError(
            "a worker process was ended from outside; with too little memory, use fewer workers"
        ) from None


def _serve(connection: Connection, work: Callable[[Any], object]) -> None:
    """Answer shards until the other side is gone."""
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(_attempt(work, connection.recv()))


def _attempt(work: Callable[[Any], object], shard: object) -> tuple[object, str | None]:
    """Return the result, or what went wrong in words: not every error survives pickling."""
    try:
        return work(shard), None
    except BhkError as error:
        return None, str(error)
    except Exception:
        return None, traceback.format_exc()
