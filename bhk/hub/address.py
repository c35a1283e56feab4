"""Addresses on the Hugging Face Hub: `user/repo`, `hf://user/repo[/path/in/repo][@revision]`, or a web page."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from bhk.base.errors import shown
from bhk.base.names import BHK_SUFFIX, WEIGHT_SUFFIXES
from bhk.base.texts import redact
from bhk.hub.errors import HubError

Kind = Literal["model", "dataset"]

SCHEME = "hf://"
_DATA = "datasets/"  # begins the path of a repository of data
_WEB = ("https://", "http://")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
FILES = (BHK_SUFFIX, *WEIGHT_SUFFIXES)  # suffixes of local files, which repositories do not have
_REPOSITORY = r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*"
_ADDRESS = re.compile(rf"(?P<repository>{_REPOSITORY})(?:/(?P<path>[^@]+))?(?:@(?P<revision>.+))?")
# The page of a repository, a folder or a file. Slashes in a revision are escaped, except perhaps in refs/pr/N.
_PAGE = re.compile(
    rf"(?P<repository>{_REPOSITORY})(?:/(?:tree|blob|resolve)/(?P<revision>refs/\w+/[^/]+|[^/]+)(?:/(?P<path>.+))?)?"
)


@dataclass(frozen=True)
class Address:
    """A place on the Hub.

    Attributes:
        repository: "user/repo".
        path: a file or folder in it; None: its top.
        revision: branch, tag or commit; None: the default branch.
        kind: whether the repository is one of models or of data.
    """

    repository: str
    path: str | None = None
    revision: str | None = None
    kind: Kind = "model"

    def __str__(self) -> str:
        place = f"{_DATA if self.kind == 'dataset' else ''}{self.repository}"
        return f"{SCHEME}{place}" + (f"/{self.path}" if self.path else "")

    @property
    def name(self) -> str:
        """The name of the repository without its owner."""
        return self.repository.partition("/")[2]

    def at(self, path: str | None) -> Address:
        """Return the address of another file of the repository, at the same revision."""
        return replace(self, path=path)


def parse_address(text: str) -> Address:
    """Return the address in `hf://user/repo[/path][@revision]` or in the URL of a page or file.

    >>> from bhk.hub.address import parse_address
    >>> address = parse_address("hf://user/repo/model.bhk@v2")
    >>> address.repository, address.path, address.revision
    ('user/repo', 'model.bhk', 'v2')

    Raises:
        HubError: the text is malformed or a URL of another site.
    """
    is_page = text.startswith(_WEB)
    match = _PAGE.fullmatch(_page(text)) if is_page else _ADDRESS.fullmatch(text.removeprefix(SCHEME).strip("/"))
    if match is None:
        raise HubError(
            f"{shown(text, 300)} is not a Hub address; expected {SCHEME}user/repo[/path/in/repo][@revision]"
            + ("; download files from other sites first" if is_page else "")
        )
    parts = match.groupdict()
    if is_page:
        parts = {name: part and unquote(part) for name, part in parts.items()}
    return Address(parts["repository"], parts["path"], parts["revision"])


def parse_data_address(text: str) -> Address:
    """Return the address of data: `hf://datasets/user/repo[/path][@revision]`, or a page; else see `parse_address`.

    >>> from bhk.hub.address import parse_data_address
    >>> parse_data_address("hf://datasets/user/repo/000000.tar").kind
    'dataset'

    Raises:
        HubError: the text is malformed or a URL of another site.
    """
    for begin in (SCHEME, *(f"{scheme}{host}/" for scheme in _WEB for host in _HOSTS)):
        if text.startswith(begin + _DATA):
            return replace(parse_address(begin + text.removeprefix(begin + _DATA)), kind="dataset")
    return parse_address(text)


def is_address(text: str) -> bool:
    """Return whether `text` begins like an address, so that it cannot be a path."""
    return text.startswith((SCHEME, *_WEB))


def looks_like_repository(text: str) -> bool:
    """Return whether `text` may be `user/repo`: two names, without the suffix of a file, whose first is no local folder."""
    return bool(re.fullmatch(_REPOSITORY, text)) and not text.endswith(FILES) and not Path(text).parent.exists()


def address_of(path_or_repo: str | os.PathLike[str]) -> Address | None:
    """Return the address on the Hub, or None for a path on this machine.

    Raises:
        HubError: the address is malformed.
    """
    text = os.fspath(path_or_repo)
    return parse_address(text) if is_address(text) or looks_like_repository(text) else None


def public_name(path_or_repo: str | os.PathLike[str]) -> str:
    """Return a path or an address as reports name it: an address without passwords and queries."""
    return redact(os.fspath(path_or_repo))


def _page(text: str) -> str:
    """Return the part of a URL after the Hub's own, without a query; empty for another site."""
    from huggingface_hub import constants  # slow to import, and rarely needed

    for endpoint in (constants.ENDPOINT, *(scheme + host for scheme in _WEB for host in _HOSTS)):
        if text.startswith(endpoint + "/"):
            return re.split(r"[?#]", text.removeprefix(endpoint))[0].strip("/")
    return ""
