"""A server of the files in a folder that answers range requests, as the Hub does."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_TYPES = {".mjs": "text/javascript", ".html": "text/html", ".wasm": "application/wasm"}


@dataclass
class Served:
    """A server that runs.

    Attributes:
        url: its address, without a slash at the end.
        ranges: whether it sends parts of files.
        lengths: whether it tells how long the whole file is.
        asked: path and range of each request.
    """

    url: str
    ranges: bool = True
    lengths: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve a folder at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, wanted = unquote(self.path.partition("?")[0]), self.headers["Range"]
            server.asked.append((path, wanted))
            file = folder / path.lstrip("/")
            data = file.read_bytes() if file.is_file() else None
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
            self.answer(data, file.suffix, None if found is None else (int(found[1]), int(found[2])))

        def answer(self, data: bytes | None, suffix: str, part: tuple[int, int] | None) -> None:
            total = len(data or b"")
            if data is None:
                data = b""
                self.send_response(404)
            elif part is None or not server.ranges:
                self.send_response(200)
            elif part[0] >= total:
                data = b""
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
            else:
                data = data[part[0] : part[1] + 1]
                self.send_response(206)
                if server.lengths:
                    self.send_header("Content-Range", f"bytes {part[0]}-{part[0] + len(data) - 1}/{total}")
            self.send_header("Content-Type", _TYPES.get(suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Expose-Headers", "Content-Range")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Served(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
