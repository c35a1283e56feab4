"""The hashes by which the Hub knows files: SHA-256 in large file storage, git's own elsewhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

_PIECE = 1 << 20

Content = Path | bytes


def sha256_of(content: Content) -> str:
    """Return the SHA-256 of a file, or of bytes, in hexadecimal digits."""
    return _digest(hashlib.sha256(), content)


def blob_of(content: Content) -> str:
    """Return the hash that git has of a file, or of bytes, in hexadecimal digits."""
    length = len(content) if isinstance(content, bytes) else content.stat().st_size
    return _digest(hashlib.sha1(b"blob %d\0" % length, usedforsecurity=False), content)


def _digest(hasher: Any, content: Content) -> str:
    if isinstance(content, bytes):
        hasher.update(content)
    else:
        with content.open("rb") as file:
            while piece := file.read(_PIECE):
                hasher.update(piece)
    return str(hasher.hexdigest())
