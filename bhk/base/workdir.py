"""Folders for intermediate results, so that long work can continue after an interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bhk.base.errors import BhkError
from bhk.base.files import DestinationExistsError, ReadError, made_folder, replace_file

Result = TypeVar("Result")

_FINGERPRINT = "fingerprint.json"


class WorkDirError(BhkError):
    """A folder for intermediate results holds those of other work, or unreadable files."""


@dataclass(frozen=True)
class WorkDir:
    """A folder of results as JSON files, and of other files that the work keeps there.

    Attributes:
        folder: created when the work begins.
    """

    folder: Path

    def claim(self, fingerprint: Mapping[str, str]) -> None:
        """Reserve the folder for this work.

        Args:
            fingerprint: everything the results depend on. Results that are there already must have the same fingerprint.

        Raises:
            WorkDirError: the folder holds results of other work, or unreadable files.
            WriteError: the folder cannot be written.
        """
        with made_folder(self.folder, parents=True):
            if not self.is_claimed:
                with contextlib.suppress(DestinationExistsError):  # another process was quicker
                    self.write(_FINGERPRINT, dict(fingerprint), replace=False)
        found = self.read(_FINGERPRINT, dict[str, str]) or {}
        if other := sorted(name for name in {*found, *fingerprint} if found.get(name) != fingerprint.get(name)):
            raise WorkDirError(
                f"{self.folder} holds results of other work (different {', '.join(other)}); "
                "give another folder, or remove this one"
            )

    def read(self, name: str, type_: type[Result]) -> Result | None:
        """Return the result in the file `name`, or None if there is no such file.

        Raises:
            WorkDirError: the file holds something else.
            ReadError: the system cannot read it.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
        try:
            return msgspec.json.decode(data, type=type_)
        except msgspec.MsgspecError as error:
            raise WorkDirError(f"{path} is not a result of this work ({error}); remove the file") from error

    @property
    def is_claimed(self) -> bool:
        """Whether the folder has been reserved for some work."""
        return self.has(_FINGERPRINT)

    def has(self, name: str) -> bool:
        """Return whether there is a file `name`."""
        return (self.folder / name).exists()

    def write(self, name: str, result: Any, *, replace: bool = True) -> None:
        """Write a result as JSON, which msgspec reads back unchanged.

        Raises:
            DestinationExistsError: `replace` is false, and there is such a file.
            WriteError: the folder cannot be written.
        """
        with replace_file(self.folder / name, force=replace, is_result=False) as file:
            file.write(msgspec.json.encode(result))
