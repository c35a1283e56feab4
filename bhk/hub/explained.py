"""What went wrong between here and the Hub, in one line that says what to do, without tokens and signed URLs."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bhk.base.errors import BhkError, shown
from bhk.hub.address import Address
from bhk.hub.errors import HubBusyError, HubError, HubFileNotFoundError, HubUnreachableError, is_network_error, redact

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_LIBRARY = ("huggingface_hub.file_download", "huggingface_hub.utils._http")  # whose warnings quote URLs


@contextlib.contextmanager
def explained(address: Address, otherwise: str | None = None) -> Iterator[None]:
    """Raise what goes wrong in the block as one typed line about `address`; errors of bhk pass.

    Args:
        otherwise: what to do when the Hub cannot be reached; None: to download the file by hand.

    Raises:
        HubFileNotFoundError: the repository has no such file.
        HubUnreachableError: the Hub cannot be asked.
        HubBusyError: it was asked too often.
        HubError: anything else that the Hub, the network or the file system refuse.
    """
    try:
        with _redacted_warnings():
            yield
        return
    except BhkError:
        raise
    # The library lets through whatever its HTTP client, the file system and the server's answers raise.
    except Exception as error:
        failure = _explain(address, error, otherwise)
    try:
        raise failure
    finally:
        failure.__context__ = None  # it holds requests, with tokens and signed URLs, for any logger to print


def _explain(address: Address, error: BaseException, otherwise: str | None) -> HubError:
    """Return one line on what went wrong at the Hub and what to do."""
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
    """Return what the library's own error was raised for: an answer of the Hub, a broken connection, a full disk."""
    from huggingface_hub import errors

    while error.__cause__ is not None and not isinstance(error, errors.HfHubHTTPError) and not is_network_error(error):
        error = error.__cause__
    return error


def _refused(where: str, error: HfHubHTTPError) -> HubError:
    """Return one line on an answer that is no success."""
    from huggingface_hub import constants

    status, headers = error.response.status_code, error.response.headers
    said = headers.get("X-Error-Message") or error.server_message
    said = f": {_quoted(said)}" if said else ""
    if status == 401:
        return HubError(
            f"the Hub does not accept the token for {where} (401): it is wrong or has expired; run `hf auth login`, or "
            "set HF_TOKEN anew"
        )
    if status == 403:
        settings = f"{constants.ENDPOINT}/settings/tokens"
        return HubError(f"the token has no right to do this with {where} (403{said}); give it the right at {settings}")
    if status in (409, 412):
        return HubError(f"{where} was changed meanwhile ({status}{said}); run the command again")
    if status == 429:
        after = headers.get("Retry-After")
        when = f"in {shown(after)} s" if after else "later"
        return HubBusyError(
            f"the Hub asks to slow down (429) for {where}; try again {when}, or `hf auth login` for more"
        )
    if status >= 500:
        return HubUnreachableError(
            f"the Hub has trouble with {where} ({status}{said}); try again later, see https://status.huggingface.co"
        )
    return HubError(f"the Hub refused the request for {where} ({status}{said}); check the name and the revision")


def _quoted(text: object) -> str:
    """Return a text of the server or the library as safe to print."""
    return redact(shown(" ".join(str(text).split()) or type(text).__name__, 200))


@contextlib.contextmanager
def _redacted_warnings() -> Iterator[None]:
    """Let the library's own warnings, of each attempt, tell no signed URL."""
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
