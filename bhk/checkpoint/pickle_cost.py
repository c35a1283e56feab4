"""How long a pickle keeps its reader busy: a guard against short ones that would take for ever.

A tuple that holds another twice, which holds another twice, and so on, is short, because a pickle names what it has made. But
the hash of such a tuple, which a dictionary or a set needs of its keys, walks through all of it, again for each time it occurs.
"""

from __future__ import annotations

import pickletools
from collections.abc import Sequence
from typing import BinaryIO

from bhk.base.limits import TooLargeError

MOST_STEPS = 20_000_000  # of hashes in one pickle: about a second

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


class _Object:
    """An object of a pickle, or the mark: how many steps its hash takes, if it has one."""

    def __init__(self, steps: int = 1) -> None:
        self.steps = steps


def check_cost(file: BinaryIO, label: str) -> None:
    """Read a pickle without making its objects, and check that its hashes take no longer than `MOST_STEPS` steps.

    A damaged pickle passes, for its reader to report.

    Args:
        file: the pickle; it is read up to its end.
        label: the name of the file in the message.

    Raises:
        TooLargeError: they take longer.
    """
    cost = _Cost()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            cost.follow(opcode, argument)
            if cost.steps > MOST_STEPS:
                raise TooLargeError(f"{label} has keys that hold each other so often that reading it would never end")
    except (ValueError, IndexError, KeyError):
        return


class _Cost:
    """Follows the instructions of a pickle.

    Attributes:
        steps: how many steps the hashes of all keys took so far.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._stack: list[_Object] = []
        self._memo: dict[int, _Object] = {}
        self._mark = _Object()

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        name = opcode.name
        if name in _PUTS:
            number = argument if isinstance(argument, int) else len(self._memo)
            self._memo[number] = self._stack[-1]
        elif name in _GETS and isinstance(argument, int):
            self._stack.append(self._memo[argument])
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        elif name == "MARK":
            self._stack.append(self._mark)
        else:
            self._make(name, self._taken(opcode), len(opcode.stack_after))

    def _taken(self, opcode: pickletools.OpcodeInfo) -> list[_Object]:
        """Take from the stack what an instruction takes."""
        kinds = [kind.name for kind in opcode.stack_before]
        count = kinds.index("mark") if "mark" in kinds else len(kinds)
        start = len(self._stack) - count
        if "mark" in kinds:
            start = len(self._stack) - 1 - self._stack[::-1].index(self._mark) - count
        taken = [found for found in self._stack[start:] if found is not self._mark]
        del self._stack[start:]
        return taken

    def _make(self, name: str, taken: Sequence[_Object], count: int) -> None:
        """Put on the stack what an instruction makes of what it took."""
        if name == "TUPLE" or name in _TUPLES:
            self._stack.append(_Object(1 + sum(found.steps for found in taken)))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            changed, *items = taken
            if name.startswith("APPEND"):  # a set may be made of the list later
                changed.steps = min(changed.steps + sum(found.steps for found in items), MOST_STEPS**2)
            else:
                keys = items if name == "ADDITEMS" else items[::2]
                self.steps += sum(found.steps for found in keys)
            self._stack.append(changed)
        elif name in ("DICT", "FROZENSET"):
            self.steps += sum(found.steps for found in (taken[::2] if name == "DICT" else taken))
            self._stack.append(_Object())
        elif name in ("LIST", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ"):
            made = _Object(1 + sum(found.steps for found in taken))
            self.steps += 0 if name == "LIST" else made.steps  # it may be a set of its arguments
            self._stack.append(made)
        else:
            self._stack.extend(_Object() for _ in range(count))
