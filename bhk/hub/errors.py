"""The kinds of failures between here and the Hub; and texts without secrets."""

from __future__ import annotations

import re

from bhk.base.errors import BhkError

_TOKEN = re.compile(r"hf_(?:(?:oauth|jwt|ott)_)?[A-Za-z0-9]{6,}[\w.\-]*|(?<=[Bb]earer )\S+")
_LOGIN = re.compile(r"(?<=://)[^\s/?#@]+@")  # name and password before a host
_QUERY = re.compile(r"(?<=://)([^\s?'\"]+)\?[^\s'\"]+")  # what a signed URL is signed with


class HubError(BhkError):
    """The Hugging Face Hub did not give or take what it was asked for."""


class HubFileNotFoundError(HubError):
    """A repository has no such file."""


class HubUnreachableError(HubError):
    """The Hub cannot be asked: no network, offline mode, or it is down."""


class HubBusyError(HubError):
    """The Hub was asked too often."""


def redact(text: str) -> str:
    """Return `text` without access tokens, passwords in URLs, and the queries of URLs, which may be signatures."""
    return _QUERY.sub(r"\1?***", _TOKEN.sub("hf_***", _LOGIN.sub("***@", text)))


def is_network_error(error: BaseException) -> bool:
    """Return whether no answer came, or not all of it: the HTTP client (httpx or httpx2) has failed."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    return isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)
