"""Reading parts of a .bhk file on the Hub by HTTP range requests, all from the commit that was seen first."""

from __future__ import annotations

import io
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bhk.container.reader import Container
from bhk.hub.address import Address, address_of
from bhk.hub.download import cached_file, local_file, with_bhk_file
from bhk.hub.errors import HubError, HubUnreachableError
from bhk.hub.explained import explained, is_network_error

if TYPE_CHECKING:
    Response = Any  # of httpx or httpx2, depending on the version of huggingface_hub

# Size of the first request: more than any header of the family (42 kB for SAM ViT-H with 594 tensors).
HEAD_BYTES = 1 << 16
_WAITS = (1, 2, 4, 8)  # seconds before reconnecting, as in huggingface_hub
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")
_EXPIRED = (400, 401, 403, 404)  # answers of storage servers to an expired signed URL


def open_container(path_or_repo: str | os.PathLike[str]) -> Container:
    """Open a local .bhk file, or one on the Hub by range requests. Without a network, its cached copy is opened.

    Args:
        path_or_repo: a file, folder or address; see `local_file`.

    Raises:
        HubError: the Hub did not provide the file.
        ReadError, FormatError: the file cannot be read or breaks a rule of the format.
    """
    address = address_of(path_or_repo)
    return Container.open(local_file(path_or_repo)) if address is None else with_bhk_file(address, _open_remote)


def _open_remote(address: Address, name: str) -> Container:
    try:
        source = RemoteFile(address.at(name))
    except HubUnreachableError:
        return Container.open(cached_file(address, name))
    return Container(source)


@dataclass(frozen=True)
class _Place:
    """Where a file can be read: a URL, which may expire, and the headers to send."""

    url: str
    headers: dict[str, str]


class RemoteFile:
    """A `ByteSource` that reads a file of a repository by ranges, from any thread.

    The first request follows the Hub's redirect to the storage server and fetches the beginning of the file. Later requests go
    to the storage server directly. When its URL expires, the Hub is asked again, for the same commit.

    Attributes:
        name: the address of the file.
        commit: the commit that all bytes come from.
        length: size of the file in bytes.
    """

    def __init__(self, address: Address) -> None:
        """Read the beginning of the file.

        Args:
            address: an address with the path of a file.

        Raises:
            HubUnreachableError: there is no network, offline mode is on, or the Hub is down.
            HubError: the Hub did not provide the file.
        """
        self.name, self.commit, self.length = str(address), "", -1
        self._address = address
        self._place: _Place | None = None
        with explained(address):
            self._head = self._range(0, HEAD_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`.

        Raises:
            HubError: the Hub does not provide them, or the file has changed.
        """
        known = self._head[offset : offset + length]
        if len(known) == length:
            return known
        with explained(self._address):
            return known + self._range(offset + len(known), offset + length)

    def close(self) -> None:
        """Do nothing, because the connections belong to huggingface_hub."""

    def _range(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end` or the end of the file, reconnecting after interruptions."""
        data = bytearray()
        waits = iter(_WAITS)
        while self.length < 0 or start + len(data) < min(end, self.length):
            known = self._place
            try:
                self._receive(known or self._at_hub(), start + len(data), end, data)
            except Exception as error:
                if known and _status(error) in _EXPIRED:
                    self._place = None
                elif _is_cut(error) and (wait := next(waits, None)) is not None:
                    time.sleep(wait)
                else:
                    raise
        return bytes(data)

    def _at_hub(self) -> _Place:
        """Return the Hub's own URL of the file, at the commit seen first, if one was seen."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        assert self._address.path is not None
        revision = self.commit or self._address.revision
        url = hf_hub_url(self._address.repository, self._address.path, repo_type=self._address.kind, revision=revision)
        return _Place(url, {**build_hf_headers(), "Accept-Encoding": "identity"})

    def _receive(self, place: _Place, start: int, end: int, data: bytearray) -> None:
        """Append the bytes from `start` up to `end` to `data`, as far as the connection holds."""
        from huggingface_hub import constants
        from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

        headers = {**place.headers, "Range": f"bytes={start}-{end - 1}"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with http_stream_backoff(
            "GET", place.url, headers=headers, timeout=timeout, retry_on_exceptions=()
        ) as response:
            hf_raise_for_status(response)
            self._check(response, start)
            # After a redirect to another host, the HTTP client has dropped the token; later requests go without it, too.
            sent = {name: value for name, value in place.headers.items() if name in response.request.headers}
            self._place = _Place(str(response.request.url), sent)
            before, end = len(data), min(end, self.length)
            for piece in response.iter_raw():
                data += piece[: end - start]
                start += len(piece)
                if start >= end:
                    return
            if len(data) == before:
                raise HubError(f"cannot read {self.name}: the server sends no data; try again later")

    def _check(self, response: Response, start: int) -> None:
        """Check that a response holds the bytes from `start` of the file that was seen first."""
        answers = [*response.history, response]
        commit = next((answer.headers["X-Repo-Commit"] for answer in answers if "X-Repo-Commit" in answer.headers), "")
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise HubError(f"cannot read parts of {self.name}: a proxy compresses them; download it with `bhk pull`")
        if response.status_code == 206 and found and int(found[1]) == start:
            length = int(found[2])
        elif response.status_code == 200 and start == 0:  # the whole file; only the beginning is used
            length = int(response.headers.get("Content-Length", -1))
        else:
            raise HubError(
                f"cannot read parts of {self.name}: the server does not send ranges; download it with `bhk pull`"
            )
        self.commit, self.length = self.commit or commit, length if self.length < 0 else self.length
        if not self.commit:
            raise HubError(f"cannot read {self.name}: the answer is not from the Hub; check HF_ENDPOINT and proxies")
        if (commit or self.commit, length) != (self.commit, self.length):
            raise HubError(f"{self.name} was changed in the meantime; open it again")


class RemoteReader(io.RawIOBase):
    """A remote file as a binary file that can be read from any place; put a `BufferedReader` before it.

    Args:
        file: the remote file.
    """

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it, counted from the beginning."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.length}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes, and return how many bytes that were."""
        data = self._file.read(self._at, max(0, min(len(buffer), self._file.length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _status(error: Exception) -> int | None:
    """Return the status code of an unsuccessful answer."""
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _is_cut(error: Exception) -> bool:
    """Return whether an established connection broke."""
    return is_network_error(error) and not type(error).__name__.startswith("Connect")
