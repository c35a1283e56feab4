"""Runs readers on cases in a process of its own, which may crash, hang or run out of memory; the case is named.

The process writes each outcome into shared memory as soon as it is known. When it ends early, the first case without an
outcome did it, and another process goes on behind that case.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tools.corruption.outcomes import Outcome
from tools.corruption.readers import Reader, Values

CPU_SECONDS = 5.0  # that reading a case may take
WAIT_SECONDS = 600.0  # that it may take with all waiting, on a busy machine
MEMORY_FACTOR = 2 + 1  # times what the tensors of a file take; once is the copy that is compared
MEMORY_FLOOR = 1 << 26  # bytes that a reader may use in any case
_MOST = 1 << 22  # cases of an attack

_NO_CASE = 255  # in place of an outcome

# A case: its name; what makes the file, or None where there is no such case; and the values that readers should find, or None
# if they should find what the first of them does.
Case = tuple[str, Callable[[], bytes | None], Values | None]


@dataclass
class Tally:
    """What readers did.

    Attributes:
        counts: how often each outcome came, by reader.
        failures: names of cases, reader and outcome, for outcomes that no reader should have.
    """

    counts: dict[str, Counter[Outcome]] = field(default_factory=dict)
    failures: list[tuple[str, str, Outcome]] = field(default_factory=list)


def watched(cases: Callable[[], Iterable[Case]], readers: Sequence[Reader], file: Path) -> Tally:
    """Return what readers do with cases.

    Args:
        cases: makes the cases, each time the same ones.
        readers: what reads them; where cases have no values, the first decides what the others should find.
        file: where the cases are put to be read.
    """
    outcomes = mmap.mmap(-1, _MOST * len(readers))
    start = 0
    while (status := _in_child(partial(_judge, cases, readers, file, outcomes, start))) != 0:
        start = bytes(outcomes).index(0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError(f"the process that reads case {start // len(readers)} ended with status {status}")
        hung = os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM)
        outcomes[start] = Outcome.HUNG if hung else Outcome.CRASHED
        start += 1
    return _tally(cases(), readers, outcomes)


def _in_child(task: Callable[[], None]) -> int:
    """Run a task in a copy of this process, and return how that ended, as `os.waitpid` says it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        task()
        status = 0
    finally:
        os._exit(status)


def _judge(
    cases: Callable[[], Iterable[Case]], readers: Sequence[Reader], file: Path, outcomes: mmap.mmap, start: int
) -> None:
    """Write the outcome of each reader for each case, from place `start` on."""
    faulthandler.disable()
    for sort in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(sort, signal.SIG_DFL)  # which ends the process
    for index, (_, make, expected) in enumerate(cases()):
        if (index + 1) * len(readers) <= start:
            continue
        data = make()
        if data is None:
            for place in range(len(readers)):
                outcomes[index * len(readers) + place] = _NO_CASE
            continue
        file.write_bytes(data)
        model: Values | str | None = expected
        for place, reader in enumerate(readers, index * len(readers)):
            if place < start:
                continue
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
            before = _reset_peak()
            outcome, found = reader.judge(file, model, forged=expected is None)
            used = _peak() - before
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if not reader.separate and used > MEMORY_FLOOR + MEMORY_FACTOR * _size(found):
                outcome = Outcome.MEMORY
            outcomes[place] = outcome
            if model is None:
                model = found


def _size(found: Values | str) -> int:
    return 0 if isinstance(found, str) else sum(len(data) for _, _, data in found.values())


def _reset_peak() -> int:
    """Set the peak of this process's memory to what it has now, and return that in bytes."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak()


def _peak() -> int:
    with open("/proc/self/status", "rb") as file:
        text = file.read()
    return int(text[text.index(b"VmHWM:") + 6 :].split(None, 1)[0]) << 10


def _tally(cases: Iterable[Case], readers: Sequence[Reader], outcomes: mmap.mmap) -> Tally:
    tally = Tally({reader.name: Counter() for reader in readers})
    for index, (name, _, _) in enumerate(cases):
        for place, reader in enumerate(readers, index * len(readers)):
            if outcomes[place] == _NO_CASE:
                continue
            outcome = Outcome(outcomes[place])
            tally.counts[reader.name][outcome] += 1
            if outcome.failed:
                tally.failures.append((name, reader.name, outcome))
    return tally
