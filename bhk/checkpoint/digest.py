"""The SHA-256 of files, by which one knows later what something was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from bhk.checkpoint.errors import UnreadableCheckpointError

HASH_BLOCK = 1 << 22


def sha256(files: Iterable[Path], stopped: Callable[[], bool] = lambda: False) -> str:
    """Return the SHA-256 of the files' bytes one after the other, in hexadecimal digits; nothing of use once `stopped`.

    Raises:
        UnreadableCheckpointError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                while not stopped() and (block := file.read(HASH_BLOCK)):
                    digest.update(block)
        except OSError as error:  # or it would be taken for a failure to write
            raise UnreadableCheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()
