"""Two commands that write to one destination at the same time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tools.faults.cases import Case, Workshop
from tools.faults.target import Tally, Target
from tools.faults.verdict import CRASHED, EQUAL, REFUSED, SILENT, files_of
from tools.forked.shell import Ended, Shell


@dataclass(frozen=True)
class Pair:
    """Two commands that write to one destination.

    Attributes:
        name: for tables.
        commands: their arguments; of one, if both are the same.
        inputs: which files of the workshop both need.
        keeps: folders of intermediate results.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...] = ("big.pth", "other.pth", "big.bhk", "other.bhk")
    keeps: tuple[str, ...] = ()


def _of_both(name: str, command: str, suffix: str, *arguments: str) -> Pair:
    return Pair(name, tuple((command, f"{source}{suffix}", *arguments) for source in ("big", "other")))


_SAM = ("sam.bhk", "sam.pth", "pictures")
_EVAL = ("eval", "sam.bhk", "--against", "sam.pth", "--images", "pictures", "--points", "2", "--boxes", "1")
_RESUMED = (*_EVAL, "--workers", "1", "--no-control", "--work-dir", "work", "-o", "out.json", "--force")

PAIRS = (
    _of_both("convert", "convert", ".pth", "-o", "out.bhk"),
    _of_both("convert --force", "convert", ".pth", "-o", "out.bhk", "--force"),
    _of_both("export .pth", "export", ".bhk", "-o", "out.pth"),
    _of_both("export .pth --force", "export", ".bhk", "-o", "out.pth", "--force"),
    _of_both("export shards", "export", ".bhk", "-o", "out.safetensors", "--shard-size", "4MB"),
    _of_both("push -o", "push", ".bhk", "user/new", "--license", "mit", "-o", "out"),
    _of_both("report", "report", ".bhk", "-o", "out.html", "--force"),
    Pair("pull and convert", (("pull", "user/there", "-o", "out.bhk"), ("convert", "other.pth", "-o", "out.bhk"))),
    Pair("convert --out-dir", (("convert", "big.pth", "other.pth", "--out-dir", "many", "--quiet"),)),
    Pair("eval", (_RESUMED,), _SAM, ("work",)),
)


class Writers:
    """Two commands that write to one destination.

    Args:
        shop: makes their folder.
        shells: run them there.
        pair: what they are.
    """

    def __init__(self, shop: Workshop, shells: Sequence[Shell], pair: Pair) -> None:
        self._shop, self._shells = shop, shells
        published = "big.bhk" if pair.commands[0][0] == "pull" else ""
        cases = [
            Case(pair.name, command, pair.inputs, keeps=pair.keeps, published=published) for command in pair.commands
        ]
        self._targets = [Target(shop, shells[0], case) for case in cases] * (2 // len(cases))
        self._both_may = "--force" in pair.commands[0] or len(cases) == 1

    def run(self, count: int, draw: Random) -> Tally:
        """Start the commands `count` times, by turns one and the other first, at most the time that the first takes apart."""
        tally = Tally()
        for number in range(count):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            delay = draw.uniform(0, self._targets[order[0]].seconds)
            tally.add(*self._outcome(self._ended(order, delay)), f"{order[0]} first, by {delay:.3f} s")
        return tally

    def _ended(self, order: tuple[int, int], delay: float) -> list[Ended]:
        self._shop.folder(self._targets[0].case)
        for place in order:
            arguments = self._targets[place].case.arguments
            self._shells[place].start(*arguments, environment=dict(self._shop.environment()))
            if place == order[0]:
                time.sleep(delay)
        return [shell.wait() for shell in self._shells]

    def _outcome(self, ended: Sequence[Ended]) -> tuple[str, str]:
        """Return what became of the destination, and what is wrong with it. It should be of one that says that it is done."""
        for one in ended:
            lines = one.err.splitlines()
            if one.status not in (0, 1) or (one.status == 1 and not (lines and lines[-1].startswith("error: "))):
                return CRASHED, f"status {one.status}: {one.err[-300:]!r}"
        files = files_of(self._targets[0].folder)
        states = [target.expected.state(files) for target in self._targets]
        owners = [state == "new" and one.status == 0 for state, one in zip(states, ended, strict=True)]
        if not any(owners):
            return SILENT, f"statuses {[one.status for one in ended]}, and {states}"
        refused = sum(one.status for one in ended)
        if not refused and not self._both_may:
            return SILENT, "both say that they made a new file"
        return (REFUSED if refused else EQUAL), ""
