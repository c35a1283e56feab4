"""Folders for intermediate results: long work is kept as it comes, and taken up again after an interruption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bhk.base.errors import BhkError
from bhk.base.files import WriteError, replace_file

Result = TypeVar("Result")

_IDENTITY = "identity.json"


class WorkDirError(BhkError):
    """A folder for intermediate results that holds those of other work, or no results."""


@dataclass(frozen=True)
class WorkDir:
    """A folder of JSON files, and others that the work puts there."""

    folder: Path

    def claim(self, identity: Mapping[str, str]) -> None:
        """Make the folder this work's.

        Args:
            identity: all that the results depend on; what the folder holds must have the same.

        Raises:
            WorkDirError: the folder holds results of other work, or what cannot be read.
            WriteError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error
        found = self.read(_IDENTITY, dict[str, str])
        if found is None:
            self.write(_IDENTITY, dict(identity))
        elif other := sorted(name for name in {*found, *identity} if found.get(name) != identity.get(name)):
            raise WorkDirError(
                f"{self.folder} holds results of other work: not the same {', '.join(other)}; "
                "give another folder, or remove this one"
            )

    def read(self, name: str, type_: type[Result]) -> Result | None:
        """Return the result in file `name`; None where there is no such file.

        Raises:
            WorkDirError: it holds no result of that type.
        """
        path = self.folder / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=type_)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise WorkDirError(f"{path} is no result of this work ({error}); remove the file") from error

    def write(self, name: str, result: Any) -> None:
        """Keep a result, which msgspec writes as JSON and reads back the same.

        Raises:
            WriteError: the folder cannot be written.
        """
        with replace_file(self.folder / name, force=True) as file:
            file.write(msgspec.json.encode(result))
