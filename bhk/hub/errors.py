"""Errors of the Hub, and how secrets are removed from texts."""

from __future__ import annotations

import re

from bhk.base.errors import BhkError

_TOKEN = re.compile(r"hf_(?:(?:oauth|jwt|ott)_)?[A-Za-z0-9]{6,}[\w.\-]*|(?<=[Bb]earer )\S+")
_LOGIN = re.compile(r"(?<=://)[^\s/?#@]+@")  # user name and password before a host
_QUERY = re.compile(r"(?<=://)([^\s?'\"]+)\?[^\s'\"]+")  # the query of a URL, which may hold a signature


class HubError(BhkError):
    """The Hugging Face Hub could not provide or accept something."""


class HubFileNotFoundError(HubError):
    """The repository has no such file."""


class HubUnreachableError(HubError):
    """The Hub cannot be reached: there is no network, offline mode is on, or the Hub is down."""


class HubBusyError(HubError):
    """The Hub refused because of too many requests."""


def redact(text: str) -> str:
    """Return `text` without access tokens, passwords in URLs and queries of URLs, which may hold signatures."""
    return _QUERY.sub(r"\1?***", _TOKEN.sub("hf_***", _LOGIN.sub("***@", text)))
