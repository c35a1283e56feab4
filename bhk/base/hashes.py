"""Hashes of files: SHA-256, and the hash that git gives a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bhk.base.files import reading

_BLOCK = 1 << 22

Content = Path | bytes


def sha256(content: Content | Iterable[Path], stopped: Callable[[], bool] = lambda: False) -> str:
    """Return a SHA-256 in hexadecimal digits.

    Args:
        content: bytes, a file, or several files that are hashed as if they were one.
        stopped: called before each block; when it returns true, hashing ends early and the result is meaningless.

    Raises:
        ReadError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for part in (content,) if isinstance(content, Path | bytes) else content:
        _update(digest, part, stopped)
    return digest.hexdigest()


def git_blob(content: Content) -> str:
    """Return the hash that git gives a file, or bytes, in hexadecimal digits.

    Raises:
        ReadError: the file cannot be read.
    """
    length = len(content) if isinstance(content, bytes) else _size(content)
    digest = hashlib.sha1(b"blob %d\0" % length, usedforsecurity=False)
    _update(digest, content, lambda: False)
    return digest.hexdigest()


def _update(digest: Any, content: Content, stopped: Callable[[], bool]) -> None:
    if isinstance(content, bytes):
        digest.update(content)
        return
    with reading(content), content.open("rb") as file:
        while not stopped() and (block := file.read(_BLOCK)):
            digest.update(block)


def _size(path: Path) -> int:
    with reading(path):
        return path.stat().st_size
