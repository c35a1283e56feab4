"""The files of a tokenizer, which turns texts into tokens. They are megabytes, so .bhk files do not carry them.

They lie beside the weights, or in the repository that the weights were converted from.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from bhk.hub.address import Address, address_of
from bhk.hub.download import cached_file, fetch_file
from bhk.hub.errors import HubError, HubFileNotFoundError, HubUnreachableError

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)


def tokenizer_files(weights: Path, source: str | None) -> tuple[Path, ...]:
    """Return the files of the tokenizer beside `weights`; if there are none, those in the cache from where they came.

    Args:
        source: what the weights were converted from, a file or an address on the Hub; None if it is not known.
    """
    beside = [path for name in TOKENIZER if (path := weights.with_name(name)).is_file()]
    if beside or source is None:
        return tuple(beside)
    found: list[Path] = []
    for name in TOKENIZER:
        with contextlib.suppress(HubError):  # not an address, or not in the cache
            address = address_of(source)
            found += [] if address is None else [cached_file(address, name)]
    return tuple(found)


def fetch_tokenizer(address: Address) -> None:
    """Download the files of the tokenizer in a repository, as far as it has them, unless the cache has them."""
    for name in TOKENIZER:
        with contextlib.suppress(HubFileNotFoundError, HubUnreachableError):
            fetch_file(address, name)
