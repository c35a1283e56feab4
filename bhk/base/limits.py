"""Limits of bhk's own on what a file from a stranger may ask for, beside those of its format.

A file of a few kilobytes can stand for gigabytes. What it stands for may be `EXPANSION` times as large as the file, which no
file of weights comes near, or as large as a limit says. The limits are environment variables, so they hold in all threads and
processes, on the command line and in Python.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from bhk.base.errors import BhkError
from bhk.base.texts import size

EXPANSION = 256  # coded weights are 4 to 32 times smaller than float32; only zeros and other repetition go further
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class TooLargeError(BhkError):
    """A file stands for more than bhk's own limits allow; the message names the limit and how to raise it."""


class LimitValueError(BhkError):
    """The environment variable of a limit has a value that is not a size."""


@dataclass(frozen=True)
class Limit:
    """A limit.

    Attributes:
        variable: the environment variable that changes it.
        default: its value without the variable.
    """

    variable: str
    default: int

    @property
    def value(self) -> int:
        """The limit that holds now.

        Raises:
            LimitValueError: the variable has a value that is not a number or a size such as "64GB".
        """
        text = os.environ.get(self.variable)
        if not text:
            return self.default
        found = parsed_size(text)
        if found is None:
            raise LimitValueError(f"the environment variable {self.variable} is {text!r}; expected a size such as 64GB")
        return found

    def raised_to(self, needed: int) -> str:
        """Return how to raise it, for a message."""
        return f"set the environment variable {self.variable}={needed} if you trust the file"


UNPACKED = Limit("BHK_MAX_UNPACKED", 1 << 30)  # bytes of dense tensors, and of what an archive unpacks to
HEADER = Limit("BHK_MAX_HEADER", 1 << 22)  # bytes of the text of a compressed header
PIXELS = Limit("BHK_MAX_PIXELS", 178_956_970)  # of a picture; Pillow's own limit
SIDE = Limit("BHK_MAX_SIDE", 1 << 17)  # pixels along a side of a picture; Pillow needs memory for each row


def check_expansion(what: str, needed: int, stored: int, limit: Limit = UNPACKED, *, times: int = EXPANSION) -> None:
    """Check that something is not too large in memory for the bytes it has in its file.

    Args:
        what: what it is, with the name of its file, for the message.
        needed: its bytes in memory.
        stored: its bytes in the file.
        limit: what is allowed in any case.
        times: how many times as large as in the file it may be.

    Raises:
        TooLargeError: it is.
    """
    if needed > max(times * stored, limit.value):
        raise TooLargeError(
            f"{what} stands for {size(needed)}, {needed // max(stored, 1):,} times its {size(stored)}; "
            f"{limit.raised_to(needed)}"
        )


def parsed_size(text: str) -> int | None:
    """Return the bytes of a size such as "5GB" or "500MiB"; None if it is none."""
    match = re.fullmatch(r"(\d{1,20})(?:\.(\d{1,20}))?\s*([KMG]I?B)?", text.strip().upper())
    if match is None:
        return None
    whole, part, unit = match[1], match[2] or "", _UNITS[match[3] or ""]
    return int(whole + part) * unit // 10 ** len(part) or None  # a float would round
