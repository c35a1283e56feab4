"""Let every operation of a command fail in turn, in every way in which the system may let it fail."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.faults.cases import Case, Workshop
from tools.faults.verdict import Expected, Left, files_of
from tools.forked.shell import KILL, KINDS, SHORT, Ended, Fault, Shell

LONGEST = 180.0  # seconds


@dataclass(frozen=True)
class Attack:
    """A way in which operations fail.

    Attributes:
        name: for tables.
        kinds, action, stays: see `Fault`.
        leaves: whether the system refuses to remove files, so that temporary ones may be left.
    """

    name: str
    kinds: tuple[str, ...]
    action: int
    stays: bool = False
    leaves: bool = False


ATTACKS = (
    Attack("disk full from a write on", ("write",), errno.ENOSPC, stays=True),
    Attack("write error (EIO)", ("write",), errno.EIO),
    Attack("short write", ("write",), SHORT),
    Attack("interrupted write (EINTR)", ("write",), errno.EINTR),
    Attack("no file or folder can be created (ENOSPC)", ("create", "mkdir"), errno.ENOSPC),
    Attack("too many open files from one on", ("open", "create"), errno.EMFILE, stays=True, leaves=True),
    Attack("interrupted opening (EINTR)", ("open", "create"), errno.EINTR),
    Attack("read error (EIO)", ("read",), errno.EIO),
    Attack("short read", ("read",), SHORT),
    Attack("interrupted read (EINTR)", ("read",), errno.EINTR),
    Attack("fsync fails (EIO)", ("sync",), errno.EIO),
    Attack("close fails (EIO)", ("close",), errno.EIO, leaves=True),
    Attack("rename fails (EIO)", ("rename",), errno.EIO),
    Attack("link fails (EIO)", ("link",), errno.EIO),
    Attack("no links at all (EPERM)", ("link",), errno.EPERM, stays=True),
    Attack("chmod fails (EPERM)", ("chmod",), errno.EPERM),
    Attack("remove fails (EIO)", ("unlink",), errno.EIO, leaves=True),
    Attack("no memory map (ENOMEM)", ("map",), errno.ENOMEM),
    Attack("no memory map from one on", ("map",), errno.ENOMEM, stays=True),
    Attack("no thread (EAGAIN)", ("thread",), errno.EAGAIN),
    Attack("no thread from one on", ("thread",), errno.EAGAIN, stays=True),
    Attack("killed at an operation", KINDS, KILL, leaves=True),
)


@dataclass
class Tally:
    """How the runs of a command under one attack ended; `examples` says what went wrong, once for each kind of wrong."""

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: str, wrong: str, where: str) -> None:
        """Count a run."""
        self.outcomes[outcome] += 1
        if wrong:
            self.examples.setdefault(wrong, where)


class Target:
    """A command whose operations fail.

    Args:
        shop: makes its folder.
        shell: runs it there.
        case: what it is.
    """

    def __init__(self, shop: Workshop, shell: Shell, case: Case) -> None:
        self._shop, self._shell, self._case = shop, shell, case
        shop.make(case)
        old, undisturbed = files_of(shop.folder(case)), (self._undisturbed(), self._undisturbed())
        self._expected = Expected(case, old, undisturbed)
        self._counts = dict(zip(KINDS, undisturbed[1].ended.operations, strict=True))

    def _undisturbed(self) -> Left:
        self._shop.folder(self._case)
        ended = self._ran(Fault(()))[0]
        if ended.status:
            raise SystemExit(f"error: {self._case.name} fails without a fault: {ended.err}")
        return Left(files_of(self._shell.folder), ended)

    def _ran(self, fault: Fault | None) -> tuple[Ended, bool]:
        """Run the command, and return how it ended, and whether it had to be ended."""
        process = self._shell.start(*self._case.arguments, environment=dict(self._shop.environment()), fault=fault)
        late = threading.Event()

        def stop() -> None:
            late.set()
            os.kill(process, signal.SIGKILL)

        timer = threading.Timer(LONGEST, stop)
        timer.start()
        ended = self._shell.wait()
        timer.cancel()
        return ended, late.is_set()

    def operations(self, kinds: tuple[str, ...]) -> int:
        """Return how many operations of some kinds the command has."""
        return sum(self._counts[kind] for kind in kinds)

    def run(self, fault: Fault, *, leaves: bool = False) -> tuple[str, str]:
        """Run the command with a fault, which may leave temporary files; return the outcome, and what is wrong."""
        self._shop.folder(self._case)
        ended, hung = self._ran(fault)
        outcome, wrong = self._expected.outcome(
            Left(files_of(self._shell.folder, temporary=not leaves), ended), hung=hung, killed=fault.action == KILL
        )
        if not wrong and self._case.keeps and ended.status:
            wrong = self._continued()
        return ("silent" if wrong and outcome in ("equal", "refused") else outcome), wrong

    def _continued(self) -> str:
        """Run the command again where a fault left intermediate results; return what is wrong then."""
        if self._expected.state(files_of(self._shell.folder)) == "new":
            return ""
        again, _ = self._ran(None)
        if again.status:
            return f"the next run fails: {again.err!r}"
        state = self._expected.state(files_of(self._shell.folder))
        return "" if state == "new" else f"after the next run, {state}"

    def attack(self, attack: Attack, most: int) -> Tally:
        """Let each operation fail in turn, or `most` of them at even distances."""
        tally = Tally()
        count = self.operations(attack.kinds)
        for at in spread(count, most):
            outcome, wrong = self.run(Fault(attack.kinds, attack.action, at, attack.stays), leaves=attack.leaves)
            tally.add(outcome, wrong, f"operation {at} of {count}")
        return tally


def spread(count: int, most: int) -> Iterator[int]:
    """Yield the numbers from 1 to `count`, or `most` of them at even distances, with the last."""
    if count <= most:
        yield from range(1, count + 1)
    else:
        yield from (1 + round(step * (count - 1) / (most - 1)) for step in range(most))
