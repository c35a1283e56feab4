"""Ways to disturb a command from outside while it runs: a kill, a source that changes, and too little memory."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from tools.faults.target import Tally, Target
from tools.faults.verdict import Expected, Left

MIB = 1 << 20


def kill(target: Target, count: int, draw: Random) -> Tally:
    """Kill a command at random moments. Where it replaces a file, a kill may leave the new one under another name."""
    tally = Tally()
    for moment in _moments(target, count, draw):

        def end(process: int, moment: float = moment) -> None:
            time.sleep(moment)
            os.kill(process, signal.SIGKILL)  # the server has not waited for it yet, so the number is still its own

        outcome, wrong = target.run(disturb=end, killed=True, leaves=bool(target.case.old))
        tally.add(outcome, wrong, f"after {moment:.3f} s")
    return tally


def _moments(target: Target, count: int, draw: Random) -> Iterator[float]:
    """Yield random moments of a command's time, one in each of `count` equal parts."""
    for number in range(count):
        yield target.seconds * (number + draw.random()) / count


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _change(path: Path) -> None:
    """Change a byte in the last quarter, where weights are."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size * 3 // 4)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 16]))


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(1000))


def _replace(path: Path) -> None:
    other = path.with_name(".other")
    shutil.copy(path, other)
    _change(other)
    other.replace(path)


CHANGES: Mapping[str, Callable[[Path], None]] = {
    "source cut in half": _cut,
    "source emptied": lambda path: os.truncate(path, 0),
    "byte of the source changed": _change,
    "source lengthened": _lengthen,
    "source replaced": _replace,
    "source removed": Path.unlink,
}


def change_source(target: Target, change: Callable[[Path], None], count: int, draw: Random) -> Tally:
    """Change a source at random moments. The command may write what it writes from the old source, or from the new one."""
    name = target.case.changing
    source = target.folder / name
    changed = tuple(target.left(prepare=lambda: change(source))[0] for _ in range(2))
    possible = [_expected(target, undisturbed) for undisturbed in (target.undisturbed, changed)]
    tally = Tally()
    for moment in _moments(target, count, draw):

        def act(_: int, moment: float = moment) -> None:
            time.sleep(moment)
            change(source)

        left, hung = target.left(disturb=act)
        verdicts = [expected.outcome(_without(left, name), hung=hung) for expected in possible]
        outcome, wrong = min(verdicts, key=lambda verdict: bool(verdict[1]))  # what is right by either is right
        tally.add(outcome, wrong, f"after {moment:.3f} s")
    return tally


def _without(left: Left, name: str) -> Left:
    return replace(left, files={path: content for path, content in left.files.items() if path != name})


def _expected(target: Target, undisturbed: tuple[Left, ...]) -> Expected:
    """Return what the command may leave beside its source."""
    name = target.case.changing
    first, second = (_without(left, name) for left in undisturbed)
    old = {path: content for path, content in target.old.items() if path != name}
    return Expected(target.case, old, (first, second))


def rooms(least: int, most: int, step: float) -> Iterator[int]:
    """Yield numbers of bytes from `least` to `most`, each `step` times the one before."""
    room = float(least)
    while room <= most:
        yield round(room)
        room *= step


def limit_memory(target: Target, least: int = MIB // 4, most: int = 2048 * MIB, step: float = 2**0.5) -> Tally:
    """Give a command little address space beside that of Python and torch, then more."""
    tally = Tally()
    for room in rooms(least, most, step):
        tally.add(*target.run(memory=room), f"{room / MIB:.1f} MiB more")
    return tally


def limit_memory_from_the_start(target: Target, least: int, most: int = 8192 * MIB, step: float = 1.25) -> Tally:
    """Start Python with little address space, then more."""
    tally = Tally()
    for room in rooms(least, most, step):
        tally.add(*target.run_anew(room), f"{room / MIB:.0f} MiB")
    return tally
