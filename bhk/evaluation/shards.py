"""Long work in shards: spread over processes, saved shard by shard, and continued after an interruption."""

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

from bhk.base.errors import BhkError, option
from bhk.base.workdir import WorkDir

Shard = TypeVar("Shard")
Result = TypeVar("Result")


class WorkerError(BhkError):
    """A worker process failed or ended early."""


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
    fingerprint: Mapping[str, str],
    advance: Callable[[int, int], None] | None = None,
) -> list[Result]:
    """Return `work(shard)` for every shard, in order.

    Torch always computes on one CPU thread per process, so that the results do not depend on `workers`.

    Args:
        work: a function whose result depends only on the shard. Each worker process gets one copy and keeps it, so a
            callable object can load models with its first shard. With one worker, it runs in this process.
        shards: the work, in parts.
        result: the type of the results, which msgspec writes as JSON and reads back.
        workers: number of processes. They are spawned, so scripts need `if __name__ == "__main__":`.
        work_dir: a folder that keeps the result of each shard; finished shards are not computed again. Created if missing.
        fingerprint: everything the results depend on; a folder with another fingerprint is refused.
        advance: called with (shards done, all shards).

    Raises:
        WorkDirError: the folder holds results of other work, or a result that cannot be read.
        WorkerError: a worker process failed; it carries the message of the error. With one worker, errors of `work` pass
            through.
        WriteError: the folder cannot be written.
    """
    store = None if work_dir is None else WorkDir(work_dir)
    results: dict[int, Result] = {}
    if store:
        store.claim(fingerprint)
        kept = ((index, store.read(_name(index), result)) for index in range(len(shards)))
        results = {index: found for index, found in kept if found is not None}
    missing = [index for index in range(len(shards)) if index not in results]
    if advance:
        advance(len(results), len(shards))
    with contextlib.closing(_compute(work, shards, missing, min(workers, len(missing)))) as computed:
        for index, found in computed:
            if store:
                store.write(_name(index), found)
            results[index] = found
            if advance:
                advance(len(results), len(shards))
    return [results[index] for index in range(len(shards))]


def _name(index: int) -> str:
    return f"shard-{index:06d}.json"


def _compute(
    work: Callable[[Shard], Result], shards: Sequence[Shard], missing: Sequence[int], workers: int
) -> Generator[tuple[int, Result], None, None]:
    """Yield (index, result) of the missing shards as they are done."""
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
    """Compute in processes; each gets its next shard when it has returned a result.

    One pipe per process instead of a pool: a pool waits forever for a process that the system killed, and leaves orphans
    when it is killed itself. With pipes, each side notices when the other is gone.
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
    """Delay Ctrl-C here and block it in processes started meanwhile: this process ends them, and they must not print."""
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
    """Turn the loss of the other end of a pipe into a WorkerError."""
    try:
        yield
    except (EOFError, OSError):
        raise WorkerError(f"a worker process was killed; if memory ran out, use fewer {option('workers')}") from None


def _serve(connection: Connection, work: Callable[[Any], object]) -> None:
    """Process shards until the other side is gone."""
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(_attempt(work, connection.recv()))


def _attempt(work: Callable[[Any], object], shard: object) -> tuple[object, str | None]:
    """Return the result, or the error as text, because not every error can be pickled."""
    try:
        return work(shard), None
    except BhkError as error:
        return None, error.marked
    except Exception:
        return None, traceback.format_exc()
