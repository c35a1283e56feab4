"""Let every operation of a command fail in turn, in every way in which the system may let it fail."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass

from tools.faults.target import Tally, Target
from tools.forked.shell import KILL, KINDS, SHORT, Fault


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


def attack(target: Target, how: Attack, most: int) -> Tally:
    """Let each operation of a command fail in turn, or `most` of them at even distances."""
    tally = Tally()
    count = target.operations(how.kinds)
    for at in spread(count, most):
        fault = Fault(how.kinds, how.action, at, how.stays)
        outcome, wrong = target.run(fault=fault, killed=how.action == KILL, leaves=how.leaves)
        tally.add(outcome, wrong, f"operation {at} of {count}")
    return tally


def spread(count: int, most: int) -> Iterator[int]:
    """Yield the numbers from 1 to `count`, or `most` of them at even distances, with the last; the middle one for one."""
    if count <= most:
        yield from range(1, count + 1)
    elif most == 1:
        yield 1 + count // 2
    else:
        yield from (1 + round(step * (count - 1) / (most - 1)) for step in range(most))
