"""What a reader may do with a file."""

from __future__ import annotations

import enum


class Outcome(enum.IntEnum):
    """What a reader did with a case."""

    REFUSED = 1  # an error of the reader's own types
    EQUAL = 2  # the values of the sound file
    ACCEPTED = 3  # what the changed file says
    CHANGED = 4  # other values, and no word about it
    DIFFERS = 5  # another verdict, or other values, than the first reader
    OTHER_ERROR = 6  # an error that is not of the reader's own types
    MEMORY = 7  # more memory than allowed
    HUNG = 8
    CRASHED = 9

    @property
    def failed(self) -> bool:
        """Whether no reader should do this."""
        return self > Outcome.ACCEPTED
