"""What a command left behind, compared with what was there before and with what it writes undisturbed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.faults.cases import CACHE, SCRATCH, Case
from tools.forked.shell import Ended

_SECONDS = re.compile(r"\d+\.\d+ s\b")
# Other times, and names that a Hub draws at random. Masked only where two undisturbed runs differ in them.
_VARYING = re.compile(rb"[0-9a-f.]*\d[0-9a-f.]*([-+]\d+)?")

EQUAL, REFUSED, CRASHED, HUNG, SILENT = OUTCOMES = ("equal", "refused", "crashed", "hung", "silent")


@dataclass(frozen=True)
class Left:
    """The files below a folder, and the output of the command that ran there.

    Attributes:
        files: path below the folder -> content; None for a folder.
        ended: how the command ended.
    """

    files: Mapping[str, bytes | None]
    ended: Ended


def files_of(folder: Path, *, temporary: bool = True) -> dict[str, bytes | None]:
    """Return the content of every file below a folder, without caches, and without temporary files where these may stay."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_temporary = name.startswith(SCRATCH) or (path.name.startswith(".") and path.suffix == ".tmp")
        if name.split("/")[0] != CACHE and name != SCRATCH and (temporary or not is_temporary):
            found[name] = path.read_bytes() if path.is_file() or path.is_symlink() else None
    return found


class Expected:
    """What a case may leave behind.

    Args:
        case: the command.
        old: the files before it runs.
        undisturbed: what two runs without a fault left.
    """

    def __init__(self, case: Case, old: Mapping[str, bytes | None], undisturbed: tuple[Left, Left]) -> None:
        first, second = undisturbed
        self.case, self._old, self._new = case, old, first
        self.varies = {name for name in first.files if first.files[name] != second.files.get(name)}
        self._speaks_of_times = (first.ended.out, first.ended.err) != (second.ended.out, second.ended.err)

    def state(self, files: Mapping[str, bytes | None], *, killed: bool = False) -> str:
        """Return "old" or "new" for the files; else what is wrong with them. Some may be each of them where they are parted."""
        files = {name: content for name, content in files.items() if not self._is_kept(name)}
        for state, expected in (("old", self._old), ("new", self._new.files)):
            if not self._difference(files, expected):
                return state
        if (self.case.piecewise or (killed and self.case.parted)) and self._old.keys() <= files.keys():
            whole = {name: content for name, content in self._new.files.items() if name in files}
            old = {name: content for name, content in self._old.items() if files.get(name) == content}
            if not self._difference(files, {**whole, **old}):
                return "old"
        return self._difference(files, self._new.files)

    def _is_kept(self, name: str) -> bool:
        return name.split("/")[0] in self.case.keeps

    def _difference(self, files: Mapping[str, bytes | None], expected: Mapping[str, bytes | None]) -> str:
        expected = {name: content for name, content in expected.items() if not self._is_kept(name)}
        if stray := sorted(files.keys() - expected.keys()):
            return f"{stray[0]} is left"
        if missing := sorted(expected.keys() - files.keys()):
            return f"{missing[0]} is gone"
        for name, content in files.items():
            if content != expected[name] and not (name in self.varies and _alike(content, expected[name])):
                return f"{name} is neither old nor new"
        return ""

    def outcome(self, left: Left, *, hung: bool = False, killed: bool = False) -> tuple[str, str]:
        """Return one of `OUTCOMES`, and what is wrong.

        Args:
            left: what the command left.
            hung: whether it had to be ended.
            killed: whether it was killed on purpose.
        """
        if hung:
            return HUNG, "it did not end"
        state = self.state(left.files, killed=killed)
        if state not in ("old", "new"):
            return SILENT, state
        if killed:
            return (EQUAL if state == "new" else REFUSED), ""
        ended = left.ended
        if ended.status == 0:
            if state == "old" and self._old != self._new.files:
                return SILENT, "status 0, and nothing was written"
            said = all(
                _SECONDS.sub("#", text) == _SECONDS.sub("#", usual)
                or (self._speaks_of_times and _alike(text.encode(), usual.encode()))
                for text, usual in ((ended.out, self._new.ended.out), (ended.err, self._new.ended.err))
            )
            return (EQUAL, "") if said else (SILENT, f"status 0, but it said {(ended.out + ended.err)[-200:]!r}")
        *before, last = ended.err.splitlines() or [""]
        usual = {_VARYING.sub(b"#", line.encode()) for line in self._new.ended.err.splitlines()}
        hints = all(
            _VARYING.sub(b"#", line.encode()) in usual or (self.case.piecewise and " failed: " in line)
            for line in before
        )
        if ended.status == 1 and last.startswith("error: ") and hints:
            return REFUSED, ""
        return CRASHED, f"status {ended.status}: {ended.err[-300:]!r}"


def _alike(found: bytes | None, expected: bytes | None) -> bool:
    return found is not None and expected is not None and _VARYING.sub(b"#", found) == _VARYING.sub(b"#", expected)
