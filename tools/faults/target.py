"""A command that is disturbed in some way, and what becomes of its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tools.faults.cases import Case, Workshop
from tools.faults.verdict import Expected, Left, files_of
from tools.forked.shell import KINDS, Ended, Fault, Shell, python_environment

LONGEST = 180.0  # seconds


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
    """A command that is disturbed.

    Args:
        shop: makes its folder.
        shell: runs it there.
        case: what it is.

    Attributes:
        folder: where it runs.
        old: the files before it runs.
        undisturbed: what two runs left.
        expected: what it may leave.
        seconds: that it takes undisturbed.
    """

    def __init__(self, shop: Workshop, shell: Shell, case: Case) -> None:
        self._shop, self._shell, self.case = shop, shell, case
        self.folder = shell.folder
        shop.make(case)
        self.old, self.undisturbed = files_of(shop.folder(case)), (self._undisturbed(), self._undisturbed())
        self.expected = Expected(case, self.old, self.undisturbed)
        self._counts = dict(zip(KINDS, self.undisturbed[1].ended.operations, strict=True))

    def _undisturbed(self) -> Left:
        began = time.monotonic()
        left, _ = self.left(fault=Fault(()))
        self.seconds = time.monotonic() - began
        if left.ended.status:
            raise SystemExit(f"error: {self.case.name} fails without a fault: {left.ended.err}")
        return left

    def operations(self, kinds: tuple[str, ...]) -> int:
        """Return how many operations of some kinds the command has."""
        return sum(self._counts[kind] for kind in kinds)

    def left(
        self,
        *,
        fault: Fault | None = None,
        memory: int | None = None,
        disturb: Callable[[int], None] | None = None,
        prepare: Callable[[], None] | None = None,
        leaves: bool = False,
    ) -> tuple[Left, bool]:
        """Run the command in a new folder, and return what it left, and whether it had to be ended.

        Args:
            fault: which of its operations fail.
            memory: bytes of address space that it may have beside those of Python and torch.
            disturb: called with its process id while it runs.
            prepare: called in the new folder before.
            leaves: whether it may leave temporary files.
        """
        self._shop.folder(self.case)
        if prepare is not None:
            prepare()
        ended, hung = self._ran(fault, memory, disturb)
        return Left(files_of(self.folder, temporary=not leaves), ended), hung

    def _ran(
        self, fault: Fault | None = None, memory: int | None = None, disturb: Callable[[int], None] | None = None
    ) -> tuple[Ended, bool]:
        process = self._shell.start(
            *self.case.arguments, environment=dict(self._shop.environment()), fault=fault, memory=memory
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            os.kill(process, signal.SIGKILL)

        timer = threading.Timer(LONGEST, stop)
        timer.start()
        if disturb is not None:
            disturb(process)
        ended = self._shell.wait()
        timer.cancel()
        if not _workers_end(self.folder):
            late.set()
        return ended, late.is_set()

    def run(
        self,
        *,
        fault: Fault | None = None,
        memory: int | None = None,
        disturb: Callable[[int], None] | None = None,
        killed: bool = False,
        leaves: bool = False,
    ) -> tuple[str, str]:
        """Disturb the command; return the outcome, and what is wrong.

        Args:
            fault, memory, disturb, leaves: see `left`.
            killed: whether it is killed on purpose.
        """
        left, hung = self.left(fault=fault, memory=memory, disturb=disturb, leaves=leaves)
        outcome, wrong = self.expected.outcome(left, hung=hung, killed=killed)
        if not wrong and self.case.resumes and left.ended.status:
            wrong = self._continued()
        return ("silent" if wrong and outcome in ("equal", "refused") else outcome), wrong

    def _continued(self) -> str:
        """Run the command again where it left a part of its work; return what is wrong then."""
        if not self.case.piecewise and self.expected.state(files_of(self.folder, temporary=False)) == "new":
            return ""
        again, _ = self._ran()
        if again.status:
            return f"the next run fails: {again.err!r}"
        state = self.expected.state(files_of(self.folder, temporary=False))
        return "" if state == "new" else f"after the next run, {state}"

    def run_anew(self, memory: int) -> tuple[str, str]:
        """Run the command in a Python that has no more address space than `memory` bytes; return as `run` does."""
        import resource

        self._shop.folder(self.case)
        try:
            found = subprocess.run(
                [sys.executable, "-m", "bhk", *self.case.arguments],
                cwd=self.folder,
                env={**python_environment(), **self._shop.environment()},
                capture_output=True,
                text=True,
                timeout=LONGEST,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
            )
        except subprocess.TimeoutExpired:
            return "hung", "it did not end"
        left = Left(files_of(self.folder), Ended(found.returncode, found.stdout, found.stderr))
        return self.expected.outcome(left)


def _workers_end(folder: Path) -> bool:
    """Wait until no process works in a folder; return whether that came to pass."""
    until = time.monotonic() + 60
    while any(_works_in(process, folder) for process in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def _works_in(process: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(process / "cwd")) == folder
    except OSError:  # it has ended
        return False
