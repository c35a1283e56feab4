"""How a place on the Hugging Face Hub is written: `user/repo` or `hf://user/repo[/path/in/repo][@revision]`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from bhk.errors import shown
from bhk.hub.errors import HubError, redact

SCHEME = "hf://"
_FILES = (".bhk", ".safetensors", ".pth", ".pt", ".bin")  # what a file here is called, and no repository
_REPOSITORY = r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*"
_ADDRESS = re.compile(rf"(?P<repository>{_REPOSITORY})(?:/(?P<path>[^@]+))?(?:@(?P<revision>.+))?")


@dataclass(frozen=True)
class Address:
    """A repository on the Hub, a file or folder in it (None: its top), and a revision (None: the default one)."""

    repository: str
    path: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"/{self.path}" if self.path else "")

    @property
    def name(self) -> str:
        """The name of the repository without that of its owner."""
        return self.repository.partition("/")[2]

    def at(self, path: str | None) -> Address:
        """Return the address of another file of the repository, at the same revision."""
        return replace(self, path=path)


def parse_address(text: str) -> Address:
    """Return what `hf://user/repo[/path][@revision]` names.

    Raises:
        HubError: it is malformed.
    """
    match = _ADDRESS.fullmatch(text.removeprefix(SCHEME).strip("/"))
    if match is None:
        raise HubError(f"{redact(shown(text))} is no Hub address; expected {SCHEME}user/repo[/path/in/repo][@revision]")
    return Address(**match.groupdict())


def looks_like_repository(text: str) -> bool:
    """Return whether `text` may be `user/repo`: two names, not the path of a file or into something that is here."""
    return bool(re.fullmatch(_REPOSITORY, text)) and not text.endswith(_FILES) and not Path(text).parent.exists()


def address_of(path_or_repo: str | os.PathLike[str]) -> Address | None:
    """Return the place on the Hub that is meant; None: it is a path on this machine.

    Raises:
        HubError: an address that is malformed.
    """
    text = os.fspath(path_or_repo)
    return parse_address(text) if text.startswith(SCHEME) or looks_like_repository(text) else None
