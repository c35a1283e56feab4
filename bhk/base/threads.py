"""Threads that can be waited for whatever happens to them.

`threading.Thread.start` waits until its thread reports. A thread that finds no memory ends before that, and the wait never
does.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from bhk.base.errors import BhkError

Value = TypeVar("Value")

_PATIENCE = 0.5  # seconds after which a thread that does not answer is looked for
_NO_MORE = "the system starts no more threads; end other programs, or use fewer threads"
_ROOM = 48 << 20  # bytes for a thread's stack, its part of each library, and some work
# Limits on memory, and which number of /proc/self/statm each is for: the address space, and what of it can be written.
_LIMITS = {"RLIMIT_AS": 0, "RLIMIT_DATA": 5}
BEGINNING = 30.0  # seconds that a thread may take to begin on a busy machine


def _has_room() -> bool:
    """Return whether the limits on this process's memory, if it has some, leave room for a thread.

    In a thread that finds no memory for its part of a library, the C library ends the whole process.
    """
    with contextlib.suppress(ImportError, OSError):  # not a Linux
        import resource

        limits = {place: resource.getrlimit(getattr(resource, name))[0] for name, place in _LIMITS.items()}
        if any(most != resource.RLIM_INFINITY for most in limits.values()):
            with open("/proc/self/statm", "rb") as file:
                used = [int(pages) * resource.getpagesize() for pages in file.read().split()]
            return all(most == resource.RLIM_INFINITY or used[place] + _ROOM <= most for place, most in limits.items())
    return True


class ThreadStartError(BhkError):
    """The system starts no more threads, or has no memory for them."""


class Worker:
    """A thread that calls a function once.

    Args:
        work: the function.

    Raises:
        ThreadStartError: the system starts no more threads.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._work = work
        self._has_begun = False
        self._asked_for = time.monotonic()
        if not _has_room():
            raise ThreadStartError(_NO_MORE)
        try:
            self._number = _thread.start_new_thread(self._run, ())
        except (RuntimeError, MemoryError):
            raise ThreadStartError(_NO_MORE) from None

    def _run(self) -> None:
        self._has_begun = True
        try:
            self._work()
        finally:
            self._ended.put(None)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, or may still begin."""
        if not self._has_begun:
            return time.monotonic() - self._asked_for < BEGINNING
        return self._number in sys._current_frames()

    def join(self) -> None:
        """Wait until the thread has ended."""
        with contextlib.suppress(MemoryError):
            receive(self._ended, self)


def receive(queue: SimpleQueue[Value], *workers: Worker) -> Value:
    """Return the next value of a queue that threads fill.

    Raises:
        MemoryError: one of the threads has ended without a word, which only happens without memory.
    """
    while True:
        with contextlib.suppress(Empty):
            return queue.get(timeout=_PATIENCE)
        if not all(worker.is_alive for worker in workers):
            with contextlib.suppress(Empty):  # it may have answered in the meantime
                return queue.get_nowait()
            raise MemoryError
