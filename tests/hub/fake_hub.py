"""A Hugging Face Hub on this machine, over real HTTP, for the real huggingface_hub, with faults on request."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from hub.answers import Answer, Call, refusal, route
from hub.repositories import Blob, HubFile, PullRequest, RefusedError, Repository, is_large

_BLOCK = 1 << 16
_MESSAGES = {401: "Invalid credentials in Authorization header"}


@dataclass(frozen=True)
class Request:
    """A request that was answered or cut off.

    Attributes:
        method: the HTTP method.
        path: the path with the query.
        range: the header Range; None without one.
        sent: bytes of the answer's body that the client received.
        received: bytes of the request's body.
        stage: the part of the protocol it belongs to.
        authorization: whether it came with a token.
    """

    method: str
    path: str
    range: str | None
    sent: int
    received: int
    stage: str
    authorization: bool


@dataclass
class _Fault:
    status: int | None
    times: int
    headers: Mapping[str, str]
    cut_after: int | None
    corrupt: bool
    action: Callable[[], object] | None
    done: bool


class FakeHub:
    """Model repositories that huggingface_hub reads and writes like those of the Hub.

    Weights and other large files are blobs on another host (another port), behind signed URLs.

    Attributes:
        url: the endpoint.
        token: the only valid token; needed for private repositories and for every write.
        waits: seconds that huggingface_hub in this process would have slept before retrying.
        ranges: whether range requests are honoured.
    """

    def __init__(self, home: Path) -> None:
        self.token = "hf_" + secrets.token_hex(17)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, Blob] = {}
        self._requests: list[Request | None] = []  # None for a request that has not ended
        self._ended = threading.Condition()
        self.waits: list[float] = []
        self.ranges = True
        self.lock = threading.RLock()
        self._home = home
        # huggingface_hub asks for this once a day, to name coding agents in the User-Agent.
        (home / ".agent_harnesses.json").write_text('{"standardEnvVars": [], "harnesses": {}}')
        self._signature = secrets.token_hex(16)
        self._faults: dict[str, list[_Fault]] = {}
        self._servers = [_Server(self), _Server(self)]
        hosts = ("127.0.0.1", "localhost")  # two, as at the Hub: clients send the token to one of them only
        self.url, self.storage_url = (
            f"http://{host}:{server.server_port}" for host, server in zip(hosts, self._servers, strict=True)
        )

    @property
    def requests(self) -> list[Request]:
        """The requests in order. Waits for the server to finish the last one, as clients get answers a moment earlier."""
        with self._ended:
            self._ended.wait_for(lambda: None not in self._requests, timeout=5)
            return [request for request in self._requests if request is not None]

    def arrival(self) -> Callable[[Request], None]:
        """Reserve the place of a new request, and return the function that takes it when it has ended."""
        with self._ended:
            place = len(self._requests)
            self._requests.append(None)

        def record(request: Request) -> None:
            with self._ended:
                self._requests[place] = request
                self._ended.notify_all()

        return record

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which another process finds this Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self._home),
            "HF_HUB_CACHE": str(self._home / "hub"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": self.token,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def add(
        self,
        repository: str,
        files: Mapping[str, bytes | Path],
        *,
        private: bool = False,
        gated: str | bool = False,
        revision: str = "main",
    ) -> str:
        """Commit files to a new or existing repository, and return the commit."""
        with self.lock:
            found = self.repositories.setdefault(repository, Repository(repository, private, gated))
            parent = found.refs.get(revision) or found.refs.get("main")
            every = dict(found.commits[parent].files) if parent else {}
            for name, content in files.items():
                blob = Blob(content)
                every[name] = HubFile(blob, is_large(name, blob.size))
                if every[name].large:
                    self.blobs[blob.sha256] = blob
            return found.commit(revision, every, parent=parent, title="Upload files").oid

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Return the contents of a repository by path."""
        return {name: file.blob.read() for name, file in self.repositories[repository].at(revision).files.items()}

    def commits(self, repository: str, revision: str = "main") -> list[str]:
        """Return the commits of a branch, newest first."""
        return [commit.oid for commit in self.repositories[repository].history(revision)]

    def pull_requests(self, repository: str) -> list[PullRequest]:
        """Return the pull requests of a repository, oldest first."""
        return list(self.repositories[repository].pull_requests)

    def inject(
        self,
        stage: str,
        *,
        status: int | None = None,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        cut_after: int | None = None,
        corrupt: bool = False,
        action: Callable[[], object] | None = None,
        done: bool = False,
    ) -> None:
        """Make the next requests of a stage fail.

        Args:
            stage: see `hub.answers._ROUTES`: "info", "tree", "paths-info", "create", "yaml", "preupload", "lfs-batch",
                "upload", "commit", "resolve", "blob" (what `resolve` redirects to), …
            status: answer with this status.
            times: number of requests; -1: all.
            headers: additional headers of the answer.
            cut_after: close the connection after this many bytes of the request's body, or of the answer's if the request
                has none or is `done`; HEAD gets no answer at all.
            corrupt: flip a bit in the middle of the request's body, or of the answer's if the request has none.
            action: called before the request is answered.
            done: carry out the request before it fails.
        """
        fault = _Fault(status, times, dict(headers or {}), cut_after, corrupt, action, done)
        self._faults.setdefault(stage, []).append(fault)

    def mend(self) -> None:
        """Remove all faults."""
        with self.lock:
            self._faults.clear()

    @contextlib.contextmanager
    def trouble(self, stage: str, **fault: Any) -> Iterator[None]:
        """Make every request of a stage fail inside the block, as `inject` does."""
        self.inject(stage, times=-1, **fault)
        yield
        self._faults.pop(stage)

    def expire_urls(self) -> None:
        """Refuse all URLs signed so far."""
        self._signature = secrets.token_hex(16)

    def signed(self, path: str) -> str:
        """Return the signed URL of something in storage."""
        return f"{self.storage_url}/{path}?X-Amz-Expires=3600&X-Amz-Signature={self._signature}"

    def check_signature(self, call: Call) -> None:
        """Raise unless the URL is signed and has not expired."""
        if call.query.get("X-Amz-Signature") != self._signature:
            raise RefusedError(403, None, "Request has expired")

    def authorize(self, call: Call, *, write: bool = False, content: bool = False) -> Repository:
        """Return the repository of a request, if the client may see (or write) it."""
        given = call.headers.get("authorization")
        if given is not None and given != f"Bearer {self.token}":
            raise RefusedError(401, None, _MESSAGES[401])
        if write and given is None:
            raise RefusedError(401, None, "Invalid username or password.")
        if "repository" not in call.parts:
            return Repository("")
        repository = self.repositories.get(call.part("repository"))
        if repository is None or (repository.private and given is None):
            raise RefusedError(404 if given else 401, "RepoNotFound", "Repository not found")
        is_owner = given is not None and repository.name.startswith("user/")
        if repository.gated and content and not is_owner:
            raise RefusedError(403 if given else 401, "GatedRepo", "Access to this repository is restricted")
        return repository

    def take_fault(self, stage: str) -> _Fault | None:
        """Return the fault for a request of this stage."""
        with self.lock:
            waiting = self._faults.get(stage, [])
            if not waiting:
                return None
            waiting[0].times -= 1
            return waiting.pop(0) if waiting[0].times == 0 else waiting[0]

    def close(self) -> None:
        for server in self._servers:
            server.stop()


class _Server(ThreadingHTTPServer):
    """One host of the Hub."""

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: tests close connections on purpose."""

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _CutError(Exception):
    """The connection must be closed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        hub = self.server.hub
        record = hub.arrival()
        path, _, query = self.path.partition("?")
        found = route(self.command, path)
        self._sent = self._received = 0
        stage, parts, answer = found or ("unknown", {}, lambda *_: refusal(404))
        fault = hub.take_fault(stage)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            with contextlib.suppress(_CutError):
                cut = None if fault is None or fault.done else fault.cut_after
                call = Call(self.command, parts, dict(parse_qsl(query, True)), headers, self._body(cut))
                self._send(self._answer(call, answer, fault), fault)
        finally:
            given = "authorization" in headers
            received = self._received
            request = Request(self.command, self.path, headers.get("range"), self._sent, received, stage, given)
            record(request)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _answer(self, call: Call, answer: Callable[[FakeHub, Call], Answer], fault: _Fault | None) -> Answer:
        """Return the Hub's answer, or the fault."""
        hub = self.server.hub
        if fault and fault.action:
            fault.action()
        if fault and fault.corrupt and call.body:
            call.body = _corrupted(call.body)
        if fault and fault.status and not fault.done:
            return refusal(fault.status, None, _MESSAGES.get(fault.status))
        try:
            with hub.lock:
                right = answer(hub, call)
        except RefusedError as error:
            return refusal(error.status, error.code, str(error))
        if fault and fault.corrupt and not call.body and right.status < 300:
            right.body = Blob(_corrupted(right.body.read(right.start, right.end)))
            right.start, right.end = 0, None
        return refusal(fault.status) if fault and fault.status else right

    def _body(self, cut: int | None) -> bytes:
        """Read the body of the request, and close the connection after `cut` bytes if `cut` is given."""
        parts = []
        for part in self._body_parts():
            self._received += len(part)
            parts.append(part)
            if cut is not None and self._received >= cut:
                self.close_connection = True
                raise _CutError
        return b"".join(parts)

    def _body_parts(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") == "chunked":
            while length := int(self.rfile.readline(), 16):
                yield self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            yield (part := self.rfile.read(min(left, _BLOCK)))
            left -= len(part)

    def _send(self, answer: Answer, fault: _Fault | None) -> None:
        if fault and fault.cut_after is not None and self.command == "HEAD":
            self.close_connection = True
            return
        self.send_response(answer.status)
        headers = {**answer.headers, **(fault.headers if fault else {}), "Content-Length": str(answer.length)}
        for name, value in headers.items():
            self.send_header(name, " ".join(value.split()))
        self.end_headers()
        if self.command == "HEAD":
            return
        at, end = answer.start, answer.start + answer.length
        if fault and fault.cut_after is not None:
            self.close_connection = True
            end = min(end, at + fault.cut_after)
        while at < end:
            block = answer.body.read(at, min(end, at + _BLOCK))
            self.wfile.write(block)
            self._sent += len(block)
            at += len(block)

    def log_message(self, *_: object) -> None:
        pass


def _corrupted(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
