"""Turns errors of huggingface_hub into one line that says what to do, without tokens and signed URLs."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bhk.base.errors import BhkError, shown
from bhk.base.texts import redact
from bhk.hub.address import Address
from bhk.hub.errors import HubBusyError, HubError, HubFileNotFoundError, HubUnreachableError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_LIBRARY = ("huggingface_hub.file_download", "huggingface_hub.utils._http")  # loggers whose warnings quote URLs


@contextlib.contextmanager
def explained(address: Address, otherwise: str | None = None) -> Iterator[None]:
    """Turn any error in the block into a HubError about `address`. Errors of bhk pass through.

    Args:
        address: what the block works on.
        otherwise: advice for when the Hub cannot be reached; None: download the file by hand.

    Raises:
        HubFileNotFoundError: the repository has no such file.
        HubUnreachableError: the Hub cannot be reached.
        HubBusyError: there were too many requests.
        HubError: the Hub, the network or the file system refused.
    """
    try:
        with _redacted_warnings():
            yield
        return
    except BhkError:
        raise
    # The library passes on whatever its HTTP client, the file system and malformed answers raise.
    except Exception as error:
        failure = _explain(address, error, otherwise)
    try:
        raise failure
    finally:
        failure.__context__ = None  # it holds requests with tokens and signed URLs, which loggers would print


def is_network_error(error: BaseException) -> bool:
    """Return whether the HTTP client (httpx or httpx2) failed, so that no answer came, or only part of one."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    return isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)


def _explain(address: Address, error: BaseException, otherwise: str | None) -> HubError:
    """Return an error that says what went wrong and what to do."""
    from huggingface_hub import constants, errors

    where = f"hf://{address.repository}"
    page = f"{constants.ENDPOINT}/{address.repository}"
    reason, otherwise = _root(error), otherwise or f"download it from {page}"
    if isinstance(reason, errors.GatedRepoError):
        return HubError(f"{where} is gated; accept its terms at {page}, then run `hf auth login`")
    if isinstance(reason, errors.RepositoryNotFoundError):
        return HubError(f"{where} does not exist or is private; check the name, or run `hf auth login`")
    if isinstance(reason, errors.RevisionNotFoundError):
        return HubError(f"{where} has no revision {shown(address.revision)!r}; see {page}/tree/main")
    if isinstance(reason, errors.RemoteEntryNotFoundError):
        return HubFileNotFoundError(f"{where} has no file {shown(address.path)!r}; see {page}/tree/main")
    if isinstance(reason, errors.HfHubHTTPError):
        return _refused(where, reason)
    if isinstance(reason, errors.LocalTokenNotFoundError):
        return HubError(f"{where} needs a token and there is none; run `hf auth login`, or set HF_TOKEN")
    if isinstance(reason, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError) or is_network_error(reason):
        cached = ", and it is not in the cache" if isinstance(error, errors.LocalEntryNotFoundError) else ""
        return HubUnreachableError(
            f"cannot reach the Hub for {where}{cached}; check the network and HF_HUB_OFFLINE, or {otherwise}"
        )
    if isinstance(reason, OSError) and reason.errno is not None:
        what = "no space is left" if reason.errno == errno.ENOSPC else shown(reason.strerror)
        place = f" ({shown(reason.filename)})" if reason.filename else ""
        return HubError(f"cannot keep {where} in the cache: {what}{place}; make room, or set HF_HOME to another disk")
    return HubError(f"cannot get {where} from the Hub ({_quoted(reason)}); check the network, or {otherwise}")


def _root(error: BaseException) -> BaseException:
    """Return the cause of the library's error: an answer of the Hub, a broken connection, a full disk."""
    from huggingface_hub import errors

    while error.__cause__ is not None and not isinstance(error, errors.HfHubHTTPError) and not is_network_error(error):
        error = error.__cause__
    return error


def _refused(where: str, error: HfHubHTTPError) -> HubError:
    """Return an error about an unsuccessful answer."""
    from huggingface_hub import constants

    status, headers = error.response.status_code, error.response.headers
    said = headers.get("X-Error-Message") or error.server_message
    said = f": {_quoted(said)}" if said else ""
    if status == 401:
        return HubError(
            f"the Hub does not accept the token for {where} (401): it is wrong or has expired; run `hf auth login`, or "
            "set HF_TOKEN"
        )
    if status == 403:
        settings = f"{constants.ENDPOINT}/settings/tokens"
        return HubError(
            f"the token does not permit this with {where} (403{said}); change its permissions at {settings}"
        )
    if status in (409, 412):
        return HubError(f"{where} was changed in the meantime ({status}{said}); run the command again")
    if status == 429:
        after = headers.get("Retry-After")
        when = f"in {shown(after)} s" if after else "later"
        return HubBusyError(
            f"too many requests to the Hub (429) for {where}; try again {when}, or run `hf auth login` for a higher limit"
        )
    if status >= 500:
        return HubUnreachableError(
            f"the Hub has trouble with {where} ({status}{said}); try again later, see https://status.huggingface.co"
        )
    return HubError(f"the Hub refused the request for {where} ({status}{said}); check the name and the revision")


def _quoted(text: object) -> str:
    """Return a text of the server or the library in a form that is safe to print."""
    return redact(shown(" ".join(str(text).split()) or type(text).__name__, 200))


@contextlib.contextmanager
def _redacted_warnings() -> Iterator[None]:
    """Remove secrets from the warnings that the library prints about each attempt."""
    loggers = [logging.getLogger(name) for name in _LIBRARY]

    def rewrite(record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True

    for logger in loggers:
        logger.addFilter(rewrite)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(rewrite)
